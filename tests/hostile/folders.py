"""Folders of models, damaged in every way that a seed can draw."""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from tests import toy_tokenizers
from tests.models import make_model

KINDS = ("llama", "gpt2", "neox", "qwen2", "mistral-sliding", "bloom")
ABSURD: tuple[Any, ...] = (
    *(-1, 0, 1, 3, 10**6, 10**9, 10**12, 2**31, 2**63, -(2**40), 1e308, float("nan"), float("inf"), 0.5, True),
    *("", "x", "\0", "é" * 1000, "a" * 1_000_000, None, [], {}, [None], [[[]]], {"a": {"b": []}}, list(range(1000))),
    *("../../../etc/passwd", "{{ 1/0 }}", "cuda:7", "float17"),
)
TREES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")


def make_base(folder: Path, kind: str) -> Path:
    """A sound folder of a random model."""
    tokenizer = toy_tokenizers.sentencepiece_bpe() if kind == "llama" else toy_tokenizers.byte_level_bpe()
    make_model(kind, vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def damage(base: Path, folder: Path, seed: int) -> str:
    """A copy of a folder with one thing wrong; returns what."""
    draw = random.Random(seed)
    shutil.copytree(base, folder)
    choose = draw.choice(WAYS)
    return f"{choose.__name__}: {choose(folder, draw)}"


def change_value(folder: Path, draw: random.Random) -> str:
    """A value somewhere in a file of settings becomes absurd, or goes."""
    name = draw.choice(TREES)
    tree = json.loads((folder / name).read_text())
    places = list(_places(tree))
    parent, key = draw.choice(places)
    value = draw.choice(ABSURD)
    said = f"{name} {key!r} = {str(value)[:40]!r}"
    if draw.random() < 0.15:
        del parent[key]
        said = f"{name} without {key!r}"
    else:
        parent[key] = value
    (folder / name).write_text(json.dumps(tree))
    return said


def change_config(folder: Path, draw: random.Random) -> str:
    """A setting at the top of `config.json`, where the numbers are."""
    tree = json.loads((folder / "config.json").read_text())
    key, value = draw.choice(sorted(tree)), draw.choice(ABSURD)
    tree[key] = value
    (folder / "config.json").write_text(json.dumps(tree))
    return f"{key} = {str(value)[:40]!r}"


def damage_file(folder: Path, draw: random.Random) -> str:
    """A file is cut, filled with noise, emptied, taken away, or something else in its place."""
    path = folder / draw.choice(sorted(file.name for file in folder.iterdir()))
    data = path.read_bytes()
    way = draw.choice(
        ("cut", "noise", "empty", "gone", "folder", "loop", "flip", "deep", "list", "latin", "zeros", "number")
    )
    path.unlink()
    if way == "folder":
        path.mkdir()
    elif way == "loop":
        path.symlink_to(path)
    elif way != "gone":
        path.write_bytes(_damaged(data, way, draw))
    return f"{way} {path.name}"


def change_weights(folder: Path, draw: random.Random) -> str:
    """Tensors are missing, renamed, of other shapes or types; a header lies."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    name = draw.choice(sorted(tensors))
    way = draw.choice(("drop", "drop many", "rename", "shape", "flat", "ints", "none", "header", "scalar", "bool"))
    if way == "header":
        data = path.read_bytes()
        size = draw.choice((0, 7, 2**40, 2**63, len(data), struct.unpack("<Q", data[:8])[0] - 1))
        path.write_bytes(struct.pack("<Q", size) + data[8:])
        return f"header of {size}"
    tensor = tensors.pop(name)
    others = {
        "rename": {f"{name}.x": tensor},
        "shape": {name: torch.zeros(*(size + 1 for size in tensor.shape))},
        "flat": {name: tensor.flatten().contiguous()},
        "ints": {name: tensor.to(torch.int32)},
        "scalar": {name: torch.tensor(1.0)},
        "bool": {name: tensor > 0},
    }
    tensors |= others.get(way, {})
    if way == "drop many":
        tensors = {key: value for key, value in tensors.items() if draw.random() < 0.5}
    save_file({} if way == "none" else tensors, path, metadata={"format": "pt"})
    return f"{way} {name}"


def change_tokens(folder: Path, draw: random.Random) -> str:
    """Tokens that are too long, too many, twice there or of absurd ids."""
    path = folder / "tokenizer.json"
    tree = json.loads(path.read_text())
    way = draw.choice(("megabyte", "many", "empty", "twice", "id", "huge id", "piece", "merge", "surrogate"))
    added = {**tree["added_tokens"][0], "id": 10**6, "content": "x" * 1_000_000, "special": draw.random() < 0.5}
    vocab = tree["model"]["vocab"]
    if way == "megabyte":
        tree["added_tokens"].append(added)
    elif way == "many":
        tree["added_tokens"] += [{**added, "id": 10**6 + at, "content": f"<{at}>" * 60} for at in range(10_000)]
    elif way == "empty":
        tree["added_tokens"].append({**added, "content": ""})
    elif way == "twice":
        tree["added_tokens"].append({**tree["added_tokens"][-1], "id": 3})
    elif way == "piece":
        vocab["y" * 1_000_000] = len(vocab)
    elif way == "merge":
        tree["model"]["merges"].append(draw.choice((["no", "such"], "a", ["a"], 3, ["", ""])))
    elif way == "surrogate":
        tree["added_tokens"].append({**added, "content": "\ud800"})
    else:
        vocab[draw.choice(sorted(vocab))] = 5 if way == "id" else 2**32 - 2
    path.write_text(json.dumps(tree))
    return way


def bring_foreign_code(folder: Path, draw: random.Random) -> str:
    """Code and pickles that leave a file `ran` in the folder if they are run."""
    marker = folder / "ran"
    (folder / "evil.py").write_text(f"open({str(marker)!r}, 'w')\nclass Config: pass\n")
    (folder / "custom_generate").mkdir()
    shutil.copy(folder / "evil.py", folder / "custom_generate" / "generate.py")
    for name in ("pytorch_model.bin", "adapter_model.bin", "training_args.bin", ".metadata"):
        (folder / name).write_bytes(pickle.dumps(_Evil(str(marker))))
    way = draw.choice(("auto_map", "unknown", "tokenizer", "pickle", "named pickle", "adapter"))
    tree = json.loads((folder / "config.json").read_text())
    classes = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Config", "AutoTokenizer": "evil.Config"}
    if way in ("auto_map", "unknown"):
        tree |= {"auto_map": classes} | ({"model_type": "evil"} if way == "unknown" else {})
    if way == "tokenizer":
        words = json.loads((folder / "tokenizer_config.json").read_text())
        words |= {"auto_map": {"AutoTokenizer": ["evil.Config", "evil.Config"]}, "tokenizer_class": "EvilTokenizer"}
        (folder / "tokenizer_config.json").write_text(json.dumps(words))
    if way in ("pickle", "adapter"):
        (folder / "model.safetensors").unlink()
    if way == "named pickle":
        tree["transformers_weights"] = "adapter_model.bin"
    if way == "adapter":
        (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(folder)}))
    (folder / "config.json").write_text(json.dumps(tree))
    return way


def shard(folder: Path, draw: random.Random) -> str:
    """An index in place of one file of weights, sound or not."""
    (folder / "model.safetensors").rename(folder / "part.safetensors")
    names = sorted(load_file(folder / "part.safetensors"))
    file = draw.choice(("part.safetensors", "gone.safetensors", "../part.safetensors", "/dev/zero", "", "config.json"))
    maps: tuple[Any, ...] = (dict.fromkeys(names, file), {}, None, [], {"a": 3}, {names[0]: "part.safetensors"})
    index = {"metadata": {"total_size": 1}, "weight_map": draw.choice(maps)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return f"shards {str(index['weight_map'])[:60]}"


class _Evil:
    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """Every value of a tree, as its parent and key; of long lists and mappings, some."""
    keys = list(tree) if isinstance(tree, dict) else list(range(len(tree))) if isinstance(tree, list) else []
    keys = keys[:40]
    return [(tree, key) for key in keys] + [place for key in keys for place in _places(tree[key])]


def _damaged(data: bytes, way: str, draw: random.Random) -> bytes:
    if way == "cut":
        return data[: draw.randrange(len(data))]
    if way == "flip":
        at = draw.randrange(min(len(data), 2000))
        return data[:at] + bytes((data[at] ^ (1 << draw.randrange(8)),)) + data[at + 1 :]
    whole = {
        "noise": draw.randbytes(1000),
        "empty": b"",
        "deep": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        "list": b"[1, 2]",
        "latin": '{"a": "é"}'.encode("latin-1"),
        "zeros": b"\0" * 1000,
        "number": b"9" * 5000,
    }
    return whole[way]


WAYS: tuple[Callable[[Path, random.Random], str], ...] = (
    *(change_value, change_value, change_config, change_config, damage_file, damage_file),
    *(change_weights, change_tokens, bring_foreign_code, shard),
)
