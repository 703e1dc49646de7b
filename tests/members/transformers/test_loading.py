"""What a folder must hold: whatever is wrong with it is an own error that names it and says what to do."""

from __future__ import annotations

import json
import logging
import shutil
import sys
import threading

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers.utils import logging as transformers_logging

from deepen_llm import Ensemble, MemberConfig, SamplingParams
from deepen_llm.errors import DeepenError, MemberError, MissingDependencyError, VocabularyError
from tests import toy_tokenizers
from tests.models import make_model


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A folder with nothing wrong."""
    folder, tokenizer = tmp_path_factory.mktemp("sound") / "model", toy_tokenizers.byte_level_bpe()
    make_model("llama", vocab_size=len(tokenizer), eos_token_id=0).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(sound, tmp_path):
    """A copy of it, to be damaged."""
    shutil.copytree(sound, tmp_path / "model")
    return tmp_path / "model"


def load(folder, **settings):
    return MemberConfig(model=str(folder), **settings).load()


def change(file, **values):
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def refuse(folder, message, error=MemberError, **settings):
    with pytest.raises(error, match=message) as caught:
        load(folder, **settings)
    assert len(str(caught.value)) <= 2000


def rewrite(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_missing_tensor_is_an_error_that_names_it(folder):
    rewrite(folder, lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight"))
    refuse(
        folder, r"'model' .*lack 1 of the model's tensors \(model\.layers\.1\.mlp\.up_proj\.weight\).*fetch the whole"
    )


def test_a_tied_head_is_not_missing(tmp_path):
    tokenizer = toy_tokenizers.byte_level_bpe()
    make_model("llama", vocab_size=len(tokenizer), tie_word_embeddings=True).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    load(tmp_path).close()


def test_a_tensor_too_many_does_no_harm(folder):
    rewrite(folder, lambda tensors: tensors.update({"of.another": torch.zeros(3)}))
    load(folder).close()


def test_a_tensor_of_another_shape_is_an_error_that_names_both(folder):
    rewrite(folder, lambda tensors: tensors.update({"model.norm.weight": torch.zeros(7)}))
    refuse(folder, r"1 of its tensors have other shapes .*\(model\.norm\.weight is \(7,\), wanted \(32,\)\)")


@pytest.mark.parametrize("size", [0, 3, 100, 5000])
def test_weights_that_are_cut_short_are_damaged(folder, size):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    refuse(folder, r"model\.safetensors is damaged or cut short \(.*fetch it anew")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "config.json is not valid JSON"),
        ("[1, 2]", r"config.json must hold a JSON object; it holds \[1, 2\]"),
        ('{"a":' * 100_000, "config.json is not valid JSON"),
        (b"\xff\xfe\x00", "config.json is not valid JSON"),
        ("9" * 5000, "config.json is not valid JSON"),
        (" " * 17_000_000, "config.json has 17,000,000 bytes"),
        ('{"model_type": "flux"}', "names the architecture model_type='flux', which this version of transformers"),
        ("{}", "names the architecture model_type=None"),
    ],
)
def test_a_config_that_is_none_is_refused(folder, content, message):
    (folder / "config.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    refuse(folder, message)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_hidden_layers": 10**9}, "num_hidden_layers=1000000000, where 0 to 10,000 make sense"),
        ({"num_hidden_layers": -1}, "num_hidden_layers=-1"),
        ({"text_config": {"num_hidden_layers": 10**9}}, "num_hidden_layers=1000000000"),
        ({"num_hidden_layers": 9999}, "the weights hold 21 tensors of .* is much larger"),
        ({"vocab_size": 10**12}, "is much larger"),
        ({"hidden_size": 2**20, "intermediate_size": 2**20}, "is much larger"),
    ],
)
def test_absurd_numbers_are_refused_before_memory_is_taken(folder, settings, message):
    change(folder / "config.json", **settings)
    refuse(folder, message)


@pytest.mark.parametrize("content", ["", "[]", '{"a": 1}', '{"model": {"type": "BPE", "vocab": 3}}', "x" * 49_000_000])
def test_a_broken_tokenizer_is_refused(folder, content):
    (folder / "tokenizer.json").write_text(content)
    refuse(folder, r"(its tokenizer cannot be read|tokenizer\.json (is not|must hold|has)).*anew")


def test_a_special_token_of_a_megabyte_is_refused(folder):
    tree = json.loads((folder / "tokenizer.json").read_text())
    tree["added_tokens"].append({**tree["added_tokens"][0], "id": len(tree["model"]["vocab"]), "content": "x" * 10**6})
    (folder / "tokenizer.json").write_text(json.dumps(tree))
    refuse(folder, "special and added tokens must have at most 256 characters.*the longest 1,000,000", VocabularyError)


def test_weights_in_pickles_are_told_how_to_convert_and_are_not_read(folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"no pickle at all")
    refuse(folder, r"pickles.*not read.*python -c .*use_safetensors=False\)\.save_pretrained\('.*model'\)")


def test_weights_that_the_configuration_names_are_no_pickles_either(folder):
    change(folder / "config.json", transformers_weights="adapter_model.bin")
    (folder / "adapter_model.bin").write_bytes(b"no pickle at all")
    refuse(folder, r"config\.json names 'adapter_model\.bin' as its weights, .*\*\.safetensors only")


def test_a_shard_that_is_not_there_is_named(folder):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "gone.safetensors"}}))
    refuse(folder, r"names 'gone\.safetensors', which is not there")
    for shards in ([1], {}, {"a": 3}, None):
        index.write_text(json.dumps({"weight_map": shards}))
        refuse(folder, "must map every tensor to its file")


def test_a_gguf_file_and_a_folder_of_one_say_what_they_are(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"GGUF" + bytes(100))
    refuse(tmp_path, r"give one of its \*\.gguf files as the model")
    (tmp_path / "model").write_bytes(b"GGUF" + bytes(100))
    refuse(tmp_path / "model", "write kind='gguf', or end its name in .gguf")


def test_what_is_no_folder_of_a_model_says_so(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    refuse(tmp_path / "empty", "the folder is empty")
    refuse(tmp_path / "file", "this is a file: give the folder")
    refuse(tmp_path, r"there is no config\.json: give the folder")
    refuse("a" * 5000, "a path or name has 1 to 4,096 characters, none of them NUL; this has 5,000")
    refuse("/" + "a" * 3000, "File name too long")
    refuse("a\0b", "none of them NUL")
    refuse("no-such-name", "no such folder, and no config.json of that name on the hub", local_files_only=True)


@pytest.mark.skipif(sys.platform == "win32", reason="the home folder is called otherwise")
def test_a_folder_may_be_named_from_home(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    load("~/model").close()
    refuse("~/nowhere", "there is no folder '~/nowhere'")


def test_a_folder_that_may_not_be_read_says_so(folder, monkeypatch):
    def refuse_listing(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.iterdir", refuse_listing)
    refuse(folder, r"cannot be read \(Permission denied\): let this user read it")


@pytest.mark.parametrize("error", [KeyError("x"), TypeError("y"), RecursionError(), MemoryError(), RuntimeError("z")])
def test_whatever_transformers_raises_is_an_own_error_that_names_the_member(folder, monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", fail)
    refuse(folder, f"member 'model' cannot be loaded from '.*model': .*{str(error) or type(error).__name__}")


def test_settings_that_transformers_cannot_use_are_in_the_message(folder):
    for settings in (
        {"tokenizer": "\0"},
        {"attn_implementation": "none such"},
        {"device_map": {}},
        {"model_kwargs": {"unheard_of": 1}},
    ):
        with pytest.raises(MemberError, match=f"given {next(iter(settings))}="):
            load(folder, **settings)


def test_a_panic_of_a_library_in_rust_is_an_own_error_and_an_interrupt_is_not(folder, monkeypatch):
    class PanicException(BaseException):
        pass

    def fail_with(error):
        def fail(*args, **kwargs):
            raise error

        monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", fail)

    fail_with(PanicException("in rust"))
    refuse(folder, "in rust")
    fail_with(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        load(folder)


def test_no_bar_of_weights_is_drawn_and_the_settings_of_transformers_stay(folder, capfd):
    def hook(factory, args, kwargs):
        return factory(*args, **kwargs)

    before = transformers_logging.is_progress_bar_enabled()
    previous = transformers_logging.set_tqdm_hook(hook)
    try:
        transformers_logging.enable_progress_bar()
        load(folder).close()
        assert "Loading weights" not in capfd.readouterr().err
        with pytest.raises(DeepenError):
            load(folder / "nowhere")
        transformers.AutoModelForCausalLM.from_pretrained(folder)
        assert "Loading weights" in capfd.readouterr().err
        assert transformers_logging.set_tqdm_hook(previous) is hook
    finally:
        transformers_logging.set_tqdm_hook(previous)
        if not before:
            transformers_logging.disable_progress_bar()


def test_members_may_be_loaded_from_several_threads(folder):
    loaded = []
    threads = [threading.Thread(target=lambda: loaded.append(load(folder))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loaded) == 4
    with Ensemble(loaded[:1]) as first, Ensemble(loaded[1:2]) as second:
        params = SamplingParams(max_new_tokens=5)
        assert first.generate("The quick", params) == second.generate("The quick", params)


def test_an_adapter_without_peft_says_what_to_install(folder, monkeypatch):
    monkeypatch.setattr("deepen_llm.members.transformers.adapter.find_spec", lambda name: None)
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "org/base"}))
    refuse(folder, r"member 'model' is an adapter .*pip install 'deepen-llm\[lora\]'", MissingDependencyError)


def test_an_adapter_must_have_weights_in_safetensors_and_name_its_base(folder, monkeypatch):
    monkeypatch.setattr("deepen_llm.members.transformers.adapter.find_spec", lambda name: object())
    (folder / "config.json").unlink()
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.bin").write_bytes(b"no pickle at all")
    refuse(folder, r"must be in adapter_model\.safetensors, which is not there; pickles are not read")
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    refuse(folder, r"must name the model that it changes \(base_model_name_or_path\)")
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "/no/such/base"}))
    refuse(folder, "there is no folder '/no/such/base'")


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
@pytest.mark.parametrize("kind", ["lora", "with its base"])
def test_an_adapter_answers_as_transformers_has_it(sound, tmp_path, kind):
    peft = pytest.importorskip("peft")
    logging.getLogger("peft").setLevel(logging.ERROR)
    torch.manual_seed(3)
    changes = peft.LoraConfig(r=4, lora_alpha=64, target_modules=["q_proj"], init_lora_weights=False)
    model = transformers.AutoModelForCausalLM.from_pretrained(sound)
    if kind == "with its base":
        shutil.copytree(sound, tmp_path / "adapter")
    peft.get_peft_model(model, changes).save_pretrained(tmp_path / "adapter")
    ids = transformers.AutoTokenizer.from_pretrained(sound)("The quick", return_tensors="pt").input_ids
    expected = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "adapter")(ids).logits[0, -1]
    member, base = load(tmp_path / "adapter"), load(sound)
    logits = [one.extend({one.open(): ids[0].tolist()})[0] for one in (member, base)]
    torch.testing.assert_close(logits[0], expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(logits[1], expected, atol=1e-2)
    assert member.identity["adapter"] == str(tmp_path / "adapter") and "adapter" not in base.identity
