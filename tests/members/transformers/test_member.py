"""Loading: what a checkpoint's folder must hold, what passes through, what is refused and how."""

from __future__ import annotations

import json

import pytest
import torch
import transformers

from deepen_llm import Ensemble, FusionConfig, MemberConfig, SamplingParams
from deepen_llm.config import EnsembleConfig
from deepen_llm.errors import ConfigError, DeepenError, MemberError, VocabularyError
from deepen_llm.members.transformers import TransformersMember
from tests import toy_tokenizers
from tests.models import make_model

PROMPT = "Once upon a time there was a little girl named Lily."


def save(folder, kind="llama", tokenizer=None, seed=0, **changes):
    tokenizer = tokenizer or toy_tokenizers.byte_level_bpe()
    eos = tokenizer.eos_token_id
    make_model(kind, vocab_size=len(tokenizer) + 3, seed=seed, **{"eos_token_id": eos, **changes}).save_pretrained(
        folder
    )
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Two random models with tokenizers of different kinds, as folders."""
    root = tmp_path_factory.mktemp("checkpoints")
    return (
        save(root / "main", "llama"),
        save(root / "other", "neox", toy_tokenizers.sentencepiece_bpe(), seed=1),
    )


@pytest.mark.parametrize("kind", ["llama", "gpt2", "neox", "qwen2", "bloom"])
def test_an_ensemble_of_one_says_what_generate_says(tmp_path, kind):
    folder = save(tmp_path / "model", kind)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(PROMPT, return_tensors="pt").input_ids
    num_tokens = len(tokenizer)  # the model's padded logits must never be chosen
    bad = [[token_id] for token_id in range(num_tokens, model.config.vocab_size)]
    bad += [[token_id] for token_id in tokenizer.all_special_ids if token_id != tokenizer.eos_token_id]
    expected = model.generate(ids, max_new_tokens=40, do_sample=False, bad_words_ids=bad, pad_token_id=0)
    with Ensemble.from_pretrained([folder]) as ensemble:
        generation = ensemble.generate(PROMPT, SamplingParams(max_new_tokens=40))
    assert list(generation.token_ids) == expected[0, ids.shape[1] :].tolist()


@pytest.mark.parametrize("fusion", [FusionConfig(), FusionConfig(max_candidates=None)])
def test_copies_of_one_model_say_what_it_says_alone(checkpoints, fusion):
    params = SamplingParams(max_new_tokens=30)
    with (
        Ensemble.from_pretrained(checkpoints[:1]) as alone,
        Ensemble.from_pretrained([checkpoints[0]] * 3, fusion=fusion) as copies,
    ):
        assert copies.member_names == ("main", "main#2", "main#3")
        assert copies.generate(PROMPT, params).token_ids == alone.generate(PROMPT, params).token_ids


def test_all_weight_on_the_main_model_is_the_main_model_alone(checkpoints):
    params = SamplingParams(max_new_tokens=30)
    with (
        Ensemble.from_pretrained(checkpoints[:1]) as alone,
        Ensemble.from_pretrained(checkpoints, weights=[1.0, 0.0]) as both,
    ):
        assert both.generate(PROMPT, params).token_ids == alone.generate(PROMPT, params).token_ids


def test_greedy_batches_and_threads_equal_single_answers(checkpoints):
    prompts = [PROMPT[:cut] for cut in (4, 9, 17, 30, 52)]
    params = SamplingParams(max_new_tokens=25)
    with Ensemble.from_pretrained(checkpoints) as ensemble:
        alone = [ensemble.generate(prompt, params) for prompt in prompts]
        assert ensemble.generate(prompts, params) == alone


def test_settings_reach_the_model(checkpoints):
    config = MemberConfig(
        model=checkpoints[0], name="mine", dtype="bfloat16", attn_implementation="eager", device="cpu"
    )
    member = TransformersMember.load(config)
    assert member.name == "mine"
    assert member.embeddings.dtype == torch.bfloat16
    assert member._model.config._attn_implementation == "eager"
    assert member.identity["dtype"] == "bfloat16"
    assert member.context_length == 256
    with Ensemble([member]) as ensemble:
        assert ensemble.generate(PROMPT, SamplingParams(max_new_tokens=3)).token_ids


def test_device_map_goes_through_accelerate(checkpoints):
    member = TransformersMember.load(MemberConfig(model=checkpoints[0], device_map={"": "cpu"}))
    assert member.device == torch.device("cpu")
    assert member.weight_bytes > 0
    assert member.num_parameters == sum(part.numel() for part in member._model.parameters())
    assert member.cache_bytes_per_token == 2 * 2 * 2 * 8 * 4


def test_unknown_model_arguments_are_not_swallowed(checkpoints):
    with pytest.raises((MemberError, TypeError), match="no_such_argument"):
        TransformersMember.load(MemberConfig(model=checkpoints[0], model_kwargs={"no_such_argument": 1}))


def test_every_end_of_sequence_id_counts(tmp_path):
    folder = save(tmp_path / "model")
    file = tmp_path / "model" / "generation_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "eos_token_id": [0, 2]}))
    assert set(TransformersMember.load(MemberConfig(model=folder)).vocabulary.eos_ids) >= {0, 2}


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        (["tokenizer.json", "tokenizer_config.json"], "member 'model' cannot be loaded"),
        (["model.safetensors"], r"cannot be loaded.*\*\.safetensors"),
        (["config.json"], "member 'model' cannot be loaded"),
    ],
)
def test_a_folder_that_lacks_something_is_refused_by_name(tmp_path, missing, message):
    folder = save(tmp_path / "model")
    for name in missing:
        (tmp_path / "model" / name).unlink()
    with pytest.raises(MemberError, match=message):
        TransformersMember.load(MemberConfig(model=folder))


def test_weights_in_a_pickle_are_refused(tmp_path):
    folder = save(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    torch.save({}, tmp_path / "model" / "pytorch_model.bin")
    with pytest.raises(MemberError, match="safetensors"):
        TransformersMember.load(MemberConfig(model=folder))


@pytest.mark.parametrize("path", ["/no/such/folder", "./nothing-here", "~/no/such/model", "a/b/c"])
def test_a_path_that_does_not_exist_is_refused(path):
    with pytest.raises(MemberError, match=f"there is no folder '{path}'"):
        TransformersMember.load(MemberConfig(model=path))


def test_a_hub_name_that_cannot_be_reached_is_refused():
    with pytest.raises(MemberError, match="'model' cannot be loaded from 'no-such-org/model'"):
        TransformersMember.load(MemberConfig(model="no-such-org/model", local_files_only=True))


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (
            transformers.BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2),
            "'bert' is an encoder-only",
        ),
        (transformers.T5Config(d_model=16, num_layers=1, num_heads=2), "'t5' is an encoder-decoder"),
    ],
)
def test_models_that_are_not_decoder_only_are_refused(tmp_path, config, kind):
    config.save_pretrained(tmp_path)
    with pytest.raises(MemberError, match=kind):
        TransformersMember.load(MemberConfig(model=str(tmp_path)))


def test_a_tokenizer_that_is_no_text_in_bytes_is_refused_by_name(tmp_path):
    folder = save(tmp_path / "wordy", tokenizer=toy_tokenizers.wordpiece(), eos_token_id=1)
    with pytest.raises(VocabularyError, match="wordy"):
        TransformersMember.load(MemberConfig(model=folder))


def test_remote_code_is_not_run_unless_asked_for(tmp_path):
    folder = save(tmp_path / "model")
    file = tmp_path / "model" / "config.json"
    settings = json.loads(file.read_text())
    file.write_text(json.dumps({**settings, "model_type": "custom", "auto_map": {"AutoConfig": "evil.Config"}}))
    (tmp_path / "model" / "evil.py").write_text("raise SystemExit('remote code ran')")
    with pytest.raises(MemberError, match="cannot be loaded"):
        TransformersMember.load(MemberConfig(model=folder))


def test_an_ensemble_is_built_from_a_yaml_file(checkpoints, tmp_path):
    file = tmp_path / "ensemble.yaml"
    file.write_text(f"members: [{checkpoints[0]}, {{model: {checkpoints[1]}, name: second}}]\nmain: second\n")
    with Ensemble.from_config(file) as ensemble:
        assert ensemble.member_names == ("main", "second")
        assert ensemble.main_name == "second"
        assert ensemble.generate(PROMPT, SamplingParams(max_new_tokens=2)).token_ids
    assert EnsembleConfig.load(file).main == "second"


def test_options_for_every_member_are_checked(checkpoints):
    with pytest.raises(ConfigError, match="no setting 'dtpye': did you mean 'dtype'"):
        Ensemble.from_pretrained(checkpoints, dtpye="float32")


def test_every_refusal_is_of_this_library(checkpoints):
    for bad in ("/no/such/folder", "no-such-org/model"):
        with pytest.raises(DeepenError):
            Ensemble.from_pretrained([checkpoints[0], bad], local_files_only=True)


@pytest.mark.gpu
@pytest.mark.parametrize("devices", [("cuda", "cuda"), ("cuda", "cpu"), ("cpu", "cuda")])
def test_members_on_any_device_say_the_same(checkpoints, devices):
    params = SamplingParams(max_new_tokens=20)
    placed = [MemberConfig(model=m, device=d) for m, d in zip(checkpoints, devices, strict=True)]
    with Ensemble.from_pretrained(checkpoints) as on_cpu, Ensemble.from_pretrained(placed) as ensemble:
        assert ensemble.generate(PROMPT, params).text == on_cpu.generate(PROMPT, params).text


@pytest.mark.parametrize(
    ("dtype", "num_bytes", "cost"),
    [(torch.float32, 1 << 30, 0.25), (torch.float32, 1 << 20, 0.05), (torch.bfloat16, 1 << 30, 0.05)],
)
def test_one_more_token_costs_large_models_in_float32_on_the_cpu_more(monkeypatch, dtype, num_bytes, cost):
    tokenizer = toy_tokenizers.byte_level_bpe()
    member = TransformersMember(make_model(vocab_size=len(tokenizer)).to(dtype), tokenizer, name="one")
    monkeypatch.setattr(TransformersMember, "weight_bytes", num_bytes)
    assert member.token_cost == cost
