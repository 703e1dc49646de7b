"""A GGUF file as a member: it says what the model says that it was made from, wherever a model can be named."""

from __future__ import annotations

import json

import pytest
import torch
import yaml
from typer.testing import CliRunner

import langchain_deepen
import llama_index.llms.deepen as llama_index_deepen
from deepen_llm import Ensemble, MemberConfig, SamplingParams
from deepen_llm.cli.app import app
from deepen_llm.errors import ConfigError, MemberError, VocabularyError
from deepen_llm.members.gguf import GGUFMember
from deepen_llm.members.gguf.library import load_library
from deepen_llm.members.transformers import TransformersMember
from tests import toy_tokenizers
from tests.gguf_models import make_llama, write_llama

PROMPT = "Once upon a time there was a little girl named Lily."
SHORT = SamplingParams(max_new_tokens=20)


def load(path, **options):
    return MemberConfig(model=path, **{"context": 128, "cache_tokens": 1024, **options}).load()


@pytest.fixture(scope="module")
def expected():
    """What the same weights say in transformers."""
    tokenizer = toy_tokenizers.byte_level_bpe()
    with Ensemble([TransformersMember(make_llama(tokenizer), tokenizer, name="one")]) as ensemble:
        return ensemble.generate(PROMPT, SHORT).text


@pytest.mark.parametrize("kind", ["byte_level_bpe", "sentencepiece_bpe"])
def test_logits_are_those_of_the_same_weights_in_transformers(tiny, sentencepiece, kind):
    tokenizer = getattr(toy_tokenizers, kind)()
    member = load(tiny if kind == "byte_level_bpe" else sentencepiece, cache_type="f32", flash_attention=False)
    other = TransformersMember(make_llama(tokenizer), tokenizer, name="other")
    ids = member.vocabulary.encode_prompt(PROMPT).ids
    with torch.inference_mode():
        own, due = (one.extend({one.open(): ids}) for one in (member, other))
    torch.testing.assert_close(own, due, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("cache_type", ["f32", "f16", "bf16"])
def test_keys_and_values_may_be_kept_in_fewer_bits(tiny, cache_type):
    member = load(tiny, cache_type=cache_type)
    with torch.inference_mode():
        assert member.extend({member.open(): [5, 6, 7]}).isfinite().all()
    assert member.identity["cache_type"] == cache_type


def test_a_cache_that_llama_cpp_does_not_make_says_why(tiny):
    with pytest.raises(MemberError, match=r"no cache of 1,024 tokens in q8_0 \(K cache type q8_0 .*another cache_type"):
        load(tiny, cache_type="q8_0")


def test_what_it_tells_of_itself_is_what_the_file_holds(tiny, tmp_path):
    member = load(tiny)
    model = make_llama(toy_tokenizers.byte_level_bpe())
    assert (member.kind, member.name, member.context_length) == ("gguf", "tiny.gguf", 128)
    assert member.computes_beside
    assert member.num_parameters == model.num_parameters() and member.weight_bytes == 4 * model.num_parameters()
    assert member.cache_bytes_per_token == 2 * 2 * 2 * 2 * 8
    assert member.identity["model"] == str(tiny)
    other = load(write_llama(tmp_path / "tiny.gguf", seed=1))
    assert other.identity["fingerprint"] != member.identity["fingerprint"]


def test_what_the_file_says_of_generation_is_told(tmp_path):
    member = load(write_llama(tmp_path / "set.gguf", general__sampling__temp=0.5))
    assert member.generation_defaults.settings == {"temperature": 0.5, "eos_token_id": list(member.vocabulary.eos_ids)}


def test_a_tokenizer_beside_the_file_must_be_the_files_own(tiny, tmp_path):
    toy_tokenizers.byte_level_bpe().save_pretrained(tmp_path / "own")
    toy_tokenizers.byte_level_bpe(size=500).save_pretrained(tmp_path / "other")
    member = load(tiny, tokenizer=tmp_path / "own")
    assert member.vocabulary.kind == "BPE, byte-level" and member.vocabulary.tokens == load(tiny).vocabulary.tokens
    with pytest.raises(VocabularyError, match=r"must be the one of the GGUF file; of 603 tokens \d+ differ"):
        load(tiny, tokenizer=tmp_path / "other")
    with pytest.raises(MemberError, match="there is no tokenizer at"):
        load(tiny, tokenizer=tmp_path / "none")


def test_closing_gives_the_memory_back_and_leaves_the_vocabulary(tiny):
    member = load(tiny)
    member.extend({member.open(): [5]})
    member.close()
    assert member.vocabulary.encode("the cat")
    member.close()


def test_a_gpu_is_refused_where_the_build_has_none(tiny):
    if load_library().llama_supports_gpu_offload():
        pytest.skip("this build has one")
    with pytest.raises(MemberError, match=r"gpu_layers=-1 needs a build of llama\.cpp for a GPU"):
        load(tiny, gpu_layers=-1)


def test_settings_of_other_kinds_are_refused_by_name(tiny):
    with pytest.raises(ConfigError, match=r"has no setting 'dtype', which belongs to kind='transformers'"):
        MemberConfig(model=tiny, dtype="float32")
    assert isinstance(load(str(tiny)), GGUFMember)
    assert isinstance(MemberConfig(model="x.bin", kind="gguf").replace(model=str(tiny), context=64).load(), GGUFMember)


def test_it_is_named_in_python_and_in_a_configuration(tiny, tmp_path, expected):
    with Ensemble.from_pretrained(tiny, context=128) as ensemble:
        assert ensemble.generate(PROMPT, SHORT).text == expected
    member = {"model": str(tiny), "context": 128, "cache_type": "f32", "threads": 1}
    (tmp_path / "ensemble.yaml").write_text(yaml.safe_dump({"members": [member]}))
    with Ensemble.from_config(tmp_path / "ensemble.yaml") as ensemble:
        assert ensemble.generate(PROMPT, SHORT).text == expected


def test_it_is_named_at_the_command_line(tiny, expected):
    run = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}).invoke
    generated = run(app, ["generate", PROMPT, "--model", str(tiny), "-n", "20", "--json"])
    assert generated.exit_code == 0, generated.output
    assert json.loads(generated.output)["text"] == expected
    inspected = run(app, ["inspect", "--model", str(tiny)])
    assert inspected.exit_code == 0 and "tiny.gguf" in inspected.output and "gpt-2" in inspected.output


def test_it_is_named_in_both_frameworks(tiny, expected):
    options = {"model": str(tiny), "member_options": {"context": 128}, "max_tokens": 20}
    assert langchain_deepen.DeepenLLM(**options).invoke(PROMPT) == expected
    assert llama_index_deepen.DeepenLLM(**options, is_chat_model=False).complete(PROMPT).text == expected
