"""Adapters: what they answer, whose memory they share, and what is refused."""

from __future__ import annotations

import copy
import json
import logging
import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from deepen_llm import Ensemble, MemberConfig, SamplingParams
from deepen_llm.errors import MemberError
from deepen_llm.testing import MemberConformance
from tests import toy_tokenizers
from tests.models import make_model

peft = pytest.importorskip("peft")
logging.getLogger("peft").setLevel(logging.ERROR)

pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning"),
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning"),
]

IDS = [5, 60, 17, 33, 9]
LORA = {"r": 4, "lora_alpha": 64, "target_modules": ["q_proj", "v_proj"], "init_lora_weights": False}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder, tokenizer = tmp_path_factory.mktemp("base") / "base", toy_tokenizers.byte_level_bpe()
    make_model("llama", vocab_size=len(tokenizer), eos_token_id=0, tie_word_embeddings=True).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def train(base, folder, changes, num_tokens=None, **loading):
    """Save an adapter with random weights; the logits that peft has of it."""
    torch.manual_seed(3)
    model = transformers.AutoModelForCausalLM.from_pretrained(base, **loading)
    if num_tokens is not None:
        model.resize_token_embeddings(num_tokens, mean_resizing=False)
    model = peft.get_peft_model(model, copy.deepcopy(changes)).eval()
    for name, weight in model.named_parameters():
        if weight.requires_grad and "lora_" not in name:
            torch.nn.init.normal_(weight, std=0.4)
    model.save_pretrained(folder)
    with torch.inference_mode():
        return model(torch.tensor([IDS])).logits[0, -1]


def load(folder, **settings):
    return MemberConfig(model=folder, **settings).load()


def answer(member):
    with torch.inference_mode():
        return member.extend({member.open(): IDS})[0]


CHANGES = {
    "lora": peft.LoraConfig(**LORA),
    "another rank, every layer": peft.LoraConfig(**{**LORA, "r": 9, "target_modules": "all-linear"}),
    "rslora": peft.LoraConfig(**LORA, use_rslora=True),
    "dora": peft.LoraConfig(**LORA, use_dora=True),
    "embeddings trained": peft.LoraConfig(**LORA, modules_to_save=["embed_tokens", "lm_head"]),
    "embeddings": peft.LoraConfig(**{**LORA, "target_modules": ["q_proj", "embed_tokens"]}),
    "tokens": peft.LoraConfig(**LORA, trainable_token_indices=[5, 9]),
    "loha": peft.LoHaConfig(r=4, target_modules=["q_proj"], init_weights=False),
    "lokr": peft.LoKrConfig(r=4, target_modules=["q_proj"], init_weights=False),
    "ia3": peft.IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]),
}
SLOW = ("rslora", "loha", "lokr", "ia3")


@pytest.mark.parametrize("kind", [pytest.param(one, marks=pytest.mark.slow) if one in SLOW else one for one in CHANGES])
def test_an_adapter_answers_as_peft_has_it_and_its_base_stays_as_it_was(base, tmp_path, kind):
    expected = train(base, tmp_path / "adapter", CHANGES[kind])
    alone = load(base)
    before = answer(alone)
    member = load(base, adapter=tmp_path / "adapter")
    torch.testing.assert_close(answer(member), expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(before, expected, atol=1e-2)
    assert torch.equal(answer(alone), before)
    embeddings = member.embeddings
    assert embeddings.is_floating_point() and embeddings.shape == alone.embeddings.shape
    assert torch.equal(embeddings, alone.embeddings) != (kind in ("embeddings trained", "embeddings", "tokens"))


def test_trained_biases_are_the_adapters_own(tmp_path):
    tokenizer = toy_tokenizers.byte_level_bpe()
    make_model("qwen2", vocab_size=len(tokenizer), eos_token_id=0).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    changes = peft.LoraConfig(**LORA, bias="all")
    expected = train(tmp_path / "base", tmp_path / "adapter", changes)
    alone = load(tmp_path / "base")
    before = answer(alone)
    torch.testing.assert_close(
        answer(load(tmp_path / "base", adapter=tmp_path / "adapter")), expected, atol=1e-4, rtol=1e-4
    )
    assert torch.equal(answer(alone), before)


def test_an_adapter_may_bring_tokens(base, tmp_path):
    tokenizer = copy.deepcopy(toy_tokenizers.byte_level_bpe())
    tokenizer.add_tokens(["<|new|>", "<|newer|>"])
    changes = peft.LoraConfig(**LORA, modules_to_save=["embed_tokens", "lm_head"])
    expected = train(base, tmp_path / "adapter", changes, num_tokens=len(tokenizer))
    tokenizer.save_pretrained(tmp_path / "adapter")
    alone = load(base)
    member = load(base, adapter=tmp_path / "adapter")
    assert len(member.vocabulary) == len(alone.vocabulary) + 2 == len(member.embeddings)
    torch.testing.assert_close(answer(member), expected, atol=1e-4, rtol=1e-4)
    assert member.shared_weight_bytes > 0 and len(alone.embeddings) == len(alone.vocabulary)


def test_an_adapter_runs_in_the_number_format_of_its_base(base, tmp_path):
    train(base, tmp_path / "adapter", peft.LoraConfig(**LORA, modules_to_save=["embed_tokens"]))
    member = load(base, adapter=tmp_path / "adapter", dtype="bfloat16")
    assert answer(member).dtype == torch.bfloat16
    assert {weight.dtype for weight in member._model.parameters()} == {torch.bfloat16}


def test_adapters_over_one_base_hold_its_weights_once(base, tmp_path):
    base = shutil.copytree(base, tmp_path / "base")  # which no other test has in memory
    for name, changes in (("one", CHANGES["lora"]), ("two", CHANGES["another rank, every layer"])):
        train(base, tmp_path / name, changes)
    one, two, alone = load(base, adapter=tmp_path / "one"), load(tmp_path / "two"), load(base)
    places = [{weight.data_ptr() for weight in member._model.parameters()} for member in (one, two, alone)]
    assert places[2] == places[0] & places[1]
    own = load_file(tmp_path / "two" / "adapter_model.safetensors")
    assert [one.shared_weight_bytes, two.shared_weight_bytes] == [0, alone.weight_bytes]
    assert two.weight_bytes - two.shared_weight_bytes == sum(weight.nbytes for weight in own.values())
    one.close()
    assert [two.shared_weight_bytes, alone.shared_weight_bytes] == [0, alone.weight_bytes]


def test_members_over_one_base_answer_together_as_each_alone(base, tmp_path):
    train(base, tmp_path / "adapter", CHANGES["lora"])
    config = MemberConfig(model=base, adapter=tmp_path / "adapter", name="adapted")
    params = SamplingParams(max_new_tokens=12)
    with Ensemble.from_pretrained([config]) as alone:
        expected = alone.generate("The quick", params)
    with Ensemble.from_pretrained([config, base], weights=[1.0, 0.0]) as both:
        assert both.generate("The quick", params).token_ids == expected.token_ids
    with Ensemble.from_pretrained([config, base]) as both:
        assert both.generate(["The quick", "A lazy"], params)[0].token_ids
    assert config.load().identity["adapter"] == str(tmp_path / "adapter")


def test_an_adapter_is_found_beside_the_configuration_file(base, tmp_path):
    train(base, tmp_path / "adapter", CHANGES["lora"])
    (tmp_path / "ensemble.yaml").write_text(f"members: [{{model: {base}, adapter: adapter}}]\n")
    with Ensemble.from_config(tmp_path / "ensemble.yaml") as ensemble:
        assert ensemble.members[0].identity["adapter"] == str(tmp_path / "adapter")


@pytest.fixture
def adapter(base, tmp_path):
    """One to be damaged."""
    train(base, tmp_path / "adapter", CHANGES["lora"])
    return tmp_path / "adapter"


def change(folder, **values):
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def rewrite(folder, change):
    tensors = load_file(folder / "adapter_model.safetensors")
    change(tensors)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def refuse(message, base, adapter, **settings):
    with pytest.raises(MemberError, match=message) as caught:
        load(base, adapter=adapter, **settings)
    assert len(str(caught.value)) < 2000


def test_an_adapter_of_another_model_is_refused(adapter, base, tmp_path):
    tokenizer = toy_tokenizers.byte_level_bpe()
    for name, changes in {"wide": {"hidden_size": 64}, "deep": {"num_hidden_layers": 4}}.items():
        model = make_model("llama", vocab_size=len(tokenizer), **changes)
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    train(tmp_path / "wide", tmp_path / "of wide", CHANGES["lora"])
    train(tmp_path / "deep", tmp_path / "of deep", CHANGES["lora"])
    refuse("'.*of wide'.*do not fit the model: name the model that it was trained on", base, tmp_path / "of wide")
    refuse("do not fit the model.*layers.2.*not among its tensors", base, tmp_path / "of deep")
    refuse("lacks 8 tensors .*layers.2", tmp_path / "deep", adapter)


def test_an_adapter_that_is_damaged_is_refused(adapter, base):
    rewrite(adapter, lambda tensors: tensors.pop("base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight"))
    refuse(r"lacks 1 tensors \(model\.layers\.1\.self_attn\.q_proj\.lora_A", base, adapter)
    change(adapter, r=2_000_000_000)
    refuse("do not fit the model", base, adapter)
    change(adapter, target_modules=["nowhere"])
    refuse("nowhere", base, adapter)
    weights = adapter / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    refuse(r"adapter_model\.safetensors is damaged or cut short", base, adapter)
    weights.unlink()
    refuse("pickles are not read", base, adapter)


@pytest.mark.parametrize("kind", ["PROMPT_TUNING", "XLORA", "OFT", "nothing", 7])
def test_an_adapter_that_is_more_than_changed_layers_is_refused(adapter, base, kind):
    change(adapter, peft_type=kind)
    refuse(f"says peft_type={kind!r}, and a member's adapter is one of LORA", base, adapter)


def test_an_adapter_over_an_adapter_or_over_nothing_is_refused(adapter, base, tmp_path):
    refuse(f"is an adapter already .*name its base, '{base}', as the model", adapter, adapter)
    refuse(r"there is no adapter_config\.json: adapter= is the folder or hub name", base, base)
    refuse("there is no folder", base, tmp_path / "nowhere")
    refuse("there is no folder '/no/such/base'", "/no/such/base", adapter)
    change(adapter, base_model_name_or_path="/no/such/base")
    with pytest.raises(MemberError, match=r"names it as the base: if that lies elsewhere, .*write adapter='.*adapter'"):
        load(adapter)
    change(adapter, alora_invocation_tokens=[1, 2])
    refuse("waits for its invocation tokens", base, adapter)


def test_an_adapter_over_weights_that_are_kept_on_disk_is_refused(adapter, base):
    places = {"model.layers.1": "disk", "model.layers.0": "cpu", "model.norm": "cpu", "lm_head": "cpu"}
    refuse(
        "must be in memory whole, and model.layers.1.*: take a device_map without 'disk'",
        base,
        adapter,
        device_map={**places, "model.embed_tokens": "cpu"},
    )


def test_an_adapter_within_the_folder_of_its_base_is_loaded_with_it(base, adapter, tmp_path):
    shutil.copytree(base, tmp_path / "both")
    shutil.copytree(adapter, tmp_path / "both", dirs_exist_ok=True)
    torch.testing.assert_close(
        answer(load(tmp_path / "both")), answer(load(base, adapter=adapter)), atol=1e-4, rtol=1e-4
    )


class TestAdapterMember(MemberConformance):
    """An adapter beside its base, which stays loaded throughout."""

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _train(cls, base, tmp_path_factory):
        folder = tmp_path_factory.mktemp("trained")
        train(base, folder, CHANGES["dora"])
        cls.config = MemberConfig(model=base, adapter=folder)
        cls.beside = load(base)

    def make_member(self):
        return self.config.load()
