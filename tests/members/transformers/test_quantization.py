"""Quantized members: what is refused by name, and, where the packages are there, what they answer."""

from __future__ import annotations

import importlib.util
import json
import logging
from types import SimpleNamespace

import pytest
import torch
import transformers

from deepen_llm import Ensemble, MemberConfig, SamplingParams
from deepen_llm.config import EnsembleConfig
from deepen_llm.errors import ConfigError, MemberError, MissingDependencyError
from deepen_llm.members.transformers.quantization import check_quantization, find_method
from tests import toy_tokenizers
from tests.models import make_model

IDS = [5, 60, 17, 33, 9]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder, tokenizer = tmp_path_factory.mktemp("plain") / "model", toy_tokenizers.byte_level_bpe()
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}
    make_model("llama", vocab_size=len(tokenizer), eos_token_id=0, **sizes).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def load(folder, quantization, **settings):
    return MemberConfig(model=folder, quantization_config=quantization, **settings).load()


def answer(member):
    with torch.inference_mode():
        return member.extend({member.open(): IDS})[0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("int8", "must be a quantization config of transformers, or its dictionary; got 'int8'"),
        (8, "or its dictionary; got 8"),
        ({}, r"must name a quant_method, one of bitsandbytes \(with load_in_8bit or load_in_4bit\), .*; got None"),
        ({"bits": 4}, "must name a quant_method"),
        ({"quant_method": "none such"}, "got 'none such'"),
        ({"load_in_8bit": True, "load_in_8bits": True}, "has no setting 'load_in_8bits': did you mean 'load_in_8bit'"),
        ({"quant_method": "gptq", "bits": 4, "load_in_4bit": True, 7: 1}, "has no setting 'bits'"),
    ],
)
def test_a_quantization_that_there_is_not_is_refused(folder, given, message):
    with pytest.raises(ConfigError, match=f"^quantization_config of member 'model' .*{message}"):
        load(folder, given)


def test_weights_in_a_format_that_nobody_knows_are_refused():
    settings = SimpleNamespace(quantization_config={"quant_method": "x"})
    with pytest.raises(MemberError, match="'a' are quantized by 'x', which this version of transformers cannot read"):
        check_quantization(None, settings, "a")
    assert find_method(None, settings) == "x"


def test_what_a_quantization_writes_of_itself_is_taken():
    from transformers import BitsAndBytesConfig, GPTQConfig

    for quantization in (BitsAndBytesConfig(load_in_4bit=True), BitsAndBytesConfig(load_in_8bit=True), GPTQConfig(4)):
        check_quantization(quantization.to_dict(), SimpleNamespace(), "a")
    assert find_method({"load_in_4bit": True}, SimpleNamespace()) == "bitsandbytes_4bit"
    assert find_method(None, SimpleNamespace()) == ""


@pytest.mark.parametrize(
    ("package", "values"),
    [
        ("bitsandbytes", {"load_in_8bit": True}),
        ("torchao", {"quant_method": "torchao", "quant_type": "int8_weight_only"}),
        ("gptqmodel", {"quant_method": "gptq", "bits": 4}),
        ("compressed_tensors", {"quant_method": "compressed-tensors"}),
    ],
)
def test_a_package_that_is_missing_is_named(folder, package, values):
    if importlib.util.find_spec(package) is not None:
        pytest.skip(f"{package} is there")
    with pytest.raises(MissingDependencyError, match=r"member 'model' .* without another package: .*pip install"):
        load(folder, values)


def test_a_quantized_checkpoint_whose_package_is_missing_names_it(folder, tmp_path):
    if importlib.util.find_spec("gptqmodel") is not None:
        pytest.skip("gptqmodel is there")
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    values = json.loads((tmp_path / "config.json").read_text())
    values["quantization_config"] = {"quant_method": "awq", "bits": 4}
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(MissingDependencyError, match="pip install gptqmodel"):
        load(tmp_path, None)


INT8 = {
    "quant_method": "torchao",
    "quant_type": {"default": {"_type": "Int8WeightOnlyConfig", "_version": 2, "_data": {}}},
}
WAYS = {
    "8 bits, bitsandbytes": {"load_in_8bit": True},
    "4 bits, bitsandbytes": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True},
    "8 bits, torchao": INT8,
    "8 bits, torchao, embeddings as well": {**INT8, "include_input_output_embeddings": True},
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("way", WAYS)
def test_a_quantized_member_answers_nearly_as_the_whole_one(folder, tmp_path, way):
    pytest.importorskip("torchao" if "torchao" in way else "bitsandbytes")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    whole, members = load(folder, None, dtype="float32"), [load(folder, WAYS[way], dtype="float32") for _ in range(2)]
    expected, logits = answer(whole).log_softmax(-1), [answer(member).log_softmax(-1) for member in members]
    assert torch.equal(logits[0], logits[1])
    assert (expected.exp() * (expected - logits[0])).sum() < (1.0 if "4 bits" in way else 0.1)
    member = members[0]
    assert member.num_parameters == whole.num_parameters and member.weight_bytes < whole.weight_bytes
    assert (members[1].shared_weight_bytes == member.weight_bytes) == ("torchao" in way)
    assert member.identity["quantization"]["quant_method"] == ("torchao" if "torchao" in way else "bitsandbytes")
    assert member.embeddings.is_floating_point() and member.embeddings.shape == whole.embeddings.shape
    torch.testing.assert_close(member.embeddings.float(), whole.embeddings, atol=0.05, rtol=0.05)
    config = EnsembleConfig(members=(MemberConfig(model=folder, quantization_config=WAYS[way], dtype="float32"),))
    config.save(tmp_path / "ensemble.yaml")
    with Ensemble.from_config(tmp_path / "ensemble.yaml") as ensemble:
        assert ensemble.generate("The quick", SamplingParams(max_new_tokens=5)).token_ids


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("way", ["8 bits, bitsandbytes", "8 bits, torchao"])
def test_an_adapter_over_a_quantized_base_answers_nearly_as_over_the_whole_one(folder, tmp_path, way):
    peft = pytest.importorskip("peft")
    pytest.importorskip("torchao" if "torchao" in way else "bitsandbytes")
    torch.manual_seed(3)
    changes = peft.LoraConfig(r=4, lora_alpha=64, target_modules=["q_proj"], init_lora_weights=False)
    peft.get_peft_model(transformers.AutoModelForCausalLM.from_pretrained(folder), changes).save_pretrained(tmp_path)
    alone = load(folder, WAYS[way], dtype="float32")
    before = answer(alone)
    expected, logprobs = (
        answer(load(folder, quantization, dtype="float32", adapter=tmp_path)).log_softmax(-1)
        for quantization in (None, WAYS[way])
    )
    assert (expected.exp() * (expected - logprobs)).sum() < 0.1
    assert (expected.exp() * (expected - before.log_softmax(-1))).sum() > 0.3
    assert torch.equal(answer(alone), before)
