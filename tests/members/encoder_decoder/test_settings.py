from __future__ import annotations

import pytest
import transformers

from deepen_llm import EnsembleConfig, MemberConfig
from deepen_llm.errors import ConfigError, MemberError
from deepen_llm.members.encoder_decoder.settings import EncoderDecoderConfig
from tests.encoder_decoders import make_model, make_tokenizer
from tests.models import make_model as make_causal
from tests.toy_tokenizers import byte_level_bpe


@pytest.fixture
def folder(tmp_path):
    """A T5 model on disk."""
    tokenizer = make_tokenizer("t5")
    make_model("t5", len(tokenizer)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def test_the_kind_is_named_and_is_written_and_read_again(tmp_path):
    config = MemberConfig(model="some/model", kind="encoder-decoder", source_pattern="<(.*)>", target_language="fr")
    assert isinstance(config, EncoderDecoderConfig)
    ensemble = EnsembleConfig(members=[config, MemberConfig(model="other")])
    ensemble.save(tmp_path / "ensemble.yaml")
    assert EnsembleConfig.load(tmp_path / "ensemble.yaml") == ensemble


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("source_pattern", "no group", "must have one group, which is the source; it has 0"),
        ("source_pattern", "(a)(b)", "it has 2: write one as"),
        ("source_pattern", "(", "must be a regular expression of Python's re"),
        ("source_template", "translate", "must hold {source} once, where the source goes; it does 0 times"),
        ("source_template", "{source} {source}", "it does 2 times"),
        ("chat_template", "plain", "chat_template means nothing for an encoder"),
    ],
)
def test_settings_that_name_no_source_are_refused(setting, value, said):
    with pytest.raises(ConfigError) as raised:
        MemberConfig(model="m", kind="encoder-decoder", **{setting: value})
    assert said in str(raised.value)


def test_another_kind_has_no_such_settings():
    with pytest.raises(ConfigError, match="'source_pattern', which belongs to kind='encoder-decoder'"):
        MemberConfig(model="m", source_pattern="(a)")


def test_a_folder_is_loaded_as_it_was_saved_and_says_what_it_is(folder):
    member = MemberConfig(model=folder, kind="encoder-decoder", source_template="say: {source}").load()
    assert member.kind == "encoder-decoder" and member.context_length == 64
    assert member.identity["source_template"] == "say: {source}" and member.identity["source_pattern"] is None
    assert member.cache_bytes_per_token == 2 * 2 * 4 * 8 * 4
    assert member.source_reader.encode("dog") == (*member.vocabulary.encode("say: dog"), 1)
    assert member.source_reader.start_ids == (0,)
    member.close()


def test_a_translators_languages_are_those_of_its_folder(tmp_path):
    tokenizer = make_tokenizer("m2m100")
    make_model("m2m100", len(tokenizer)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    languages = {"source_language": "fra_Latn", "target_language": "deu_Latn"}
    reader = MemberConfig(model=tmp_path, kind="encoder-decoder", **languages).load().source_reader
    french, german = tokenizer.convert_tokens_to_ids(["fra_Latn", "deu_Latn"])
    assert (reader.prefix_ids, reader.suffix_ids, reader.start_ids) == ((french,), (2,), (2, german))


def test_the_kind_for_decoder_only_models_names_this_one(folder):
    with pytest.raises(MemberError, match="'t5' is an encoder-decoder model: take kind='encoder-decoder'"):
        MemberConfig(model=folder).load()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: make_causal("gpt2"),
            "must be a sequence-to-sequence model; 'gpt2' is a decoder-only model: take kind=",
        ),
        (
            lambda: transformers.BertModel(
                transformers.BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
            ),
            "'bert' is an encoder-only model: leave it out or take a model in its place that writes text",
        ),
    ],
)
def test_models_without_an_encoder_or_without_a_decoder_are_refused(tmp_path, make, said):
    make().save_pretrained(tmp_path)
    byte_level_bpe().save_pretrained(tmp_path)
    with pytest.raises(MemberError) as raised:
        MemberConfig(model=tmp_path, kind="encoder-decoder").load()
    assert said in str(raised.value)


def test_a_decoder_that_has_nothing_to_begin_from_is_refused(tmp_path):
    tokenizer = make_tokenizer("t5")
    model = make_model("t5", len(tokenizer))
    model.config.decoder_start_token_id = model.generation_config.decoder_start_token_id = None
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(MemberError, match="must say from which token its decoder begins"):
        MemberConfig(model=tmp_path, kind="encoder-decoder").load()


def test_what_the_decoder_begins_from_is_none_of_the_settings_that_are_passed_over(folder):
    member = MemberConfig(model=folder, kind="encoder-decoder").load()
    assert "eos_token_id" in member.generation_defaults.settings
    assert member.generation_defaults.passed_over(is_main=False) == []
