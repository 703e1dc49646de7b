from __future__ import annotations

import pytest

from deepen_llm.errors import ConfigError
from deepen_llm.members.encoder_decoder.member import EncoderDecoderMember
from deepen_llm.members.encoder_decoder.settings import EncoderDecoderConfig
from tests.encoder_decoders import make_member, make_model, make_tokenizer


def test_a_source_is_in_its_language_and_an_answer_begins_with_another():
    member, tokenizer = (
        make_member("m2m100", source_language="fra_Latn", target_language="deu_Latn"),
        make_tokenizer("m2m100"),
    )
    french, german = tokenizer.convert_tokens_to_ids(["fra_Latn", "deu_Latn"])
    tokenizer.src_lang = "fra_Latn"
    assert member.source_reader.encode("the dog") == tuple(tokenizer("the dog").input_ids)
    assert member.source_reader.encode("the dog")[0] == french
    assert member.source_reader.start_ids == (2, german)


def test_the_tokenizer_of_the_caller_stays_as_it_is():
    tokenizer = make_tokenizer("m2m100")
    before = tokenizer("the dog").input_ids
    model, settings = make_model("m2m100", len(tokenizer)), EncoderDecoderConfig(model="m", source_language="fra_Latn")
    member = EncoderDecoderMember(model, tokenizer, settings=settings)
    assert member.source_reader.encode("the dog") != tuple(before) == tuple(tokenizer("the dog").input_ids)


def test_without_a_language_the_models_own_begins():
    tokenizer = make_tokenizer("m2m100")
    model = make_model("m2m100", len(tokenizer))
    model.generation_config.forced_bos_token_id = 7
    member = EncoderDecoderMember(model, tokenizer, settings=EncoderDecoderConfig(model="m"))
    assert member.source_reader.start_ids == (2, 7)


@pytest.mark.parametrize("setting", ["source_language", "target_language"])
def test_an_unknown_language_is_refused_with_the_nearest(setting):
    with pytest.raises(ConfigError, match=rf"{setting} of member 'm2m100' .*got 'fra': did you mean 'fra_Latn'"):
        make_member("m2m100", **{setting: "fra"})


def test_a_tokenizer_without_languages_has_no_source_language():
    with pytest.raises(ConfigError, match="source_language of member 't5' is for tokenizers with languages"):
        make_member("t5", source_language="fra_Latn")
