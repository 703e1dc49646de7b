"""Headers: what is read of them, and that whatever is damaged is told before llama.cpp sees the file."""

from __future__ import annotations

import math
import struct

import pytest

from deepen_llm.members.gguf.header import Header
from tests.gguf_models import write_llama


def test_settings_and_tensors_are_read_as_they_were_written(tiny):
    header = Header.read(tiny)
    assert header.architecture == "llama" and header.number("block_count") == 2
    assert header.number("no_such_setting", 7) == 7 and header.num_bytes == tiny.stat().st_size
    embeddings = header.tensors["token_embd.weight"]
    assert embeddings.shape == (32, 603) and embeddings.type == 0
    assert all(tensor.offset % 32 == 0 for tensor in header.tensors.values())
    last = max(header.tensors.values(), key=lambda tensor: tensor.offset)
    assert 0 <= header.num_bytes - last.offset - 4 * math.prod(last.shape) < 32


def test_a_file_that_ends_within_its_header_says_so(tiny, tmp_path):
    data, path = tiny.read_bytes(), tmp_path / "short.gguf"
    for size in (0, 3, 5, 20, 100, 1000, 10_000):
        path.write_bytes(data[:size])
        with pytest.raises(ValueError, match=f"ends within its header, after {size:,} bytes"):
            Header.read(path)


def change(tiny, tmp_path, at, new):
    data = bytearray(tiny.read_bytes())
    data[at : at + len(new)] = new
    path = tmp_path / "changed.gguf"
    path.write_bytes(data)
    return path


def test_numbers_that_cannot_be_are_refused_before_memory_is_taken(tiny, tmp_path):
    data, many = tiny.read_bytes(), struct.pack("<Q", 1 << 60)
    tokens = data.index(b"tokenizer.ggml.tokens") + len(b"tokenizer.ggml.tokens")
    merges = data.index(b"tokenizer.ggml.merges") + len(b"tokenizer.ggml.merges")
    types = data.index(b"tokenizer.ggml.token_type") + len(b"tokenizer.ggml.token_type")
    name = data.index(b"token_embd.weight") + len(b"token_embd.weight")
    cases = {
        (0, b"GGML"): "does not begin with 'GGUF'",
        (4, struct.pack("<I", 1)): "GGUF has the versions 2 and 3, and this says 1",
        (8, many): "it says that it has 1,152,921,504,606,846,976 tensors",
        (16, many): "settings: fetch it anew",
        (24, many): "a text says that it has 1,152,921,504,606,846,976 bytes",
        (tokens, struct.pack("<I", 77)): "of the unknown kind 77",
        (tokens + 4, struct.pack("<I", 4)): "tokens must be a list of texts",
        (merges + 8, many): "a list says that it has 1,152,921,504,606,846,976 entries",
        (types + 4, struct.pack("<I", 9)): "a list holds entries of the unknown kind 9",
        (name, struct.pack("<I", 9)): "has 9 dimensions",
        (name + 4, many): r"of shape \(1152921504606846976, 603\) cannot lie in it",
        (name + 24, struct.pack("<Q", 3)): "'token_embd.weight' is not aligned",
    }
    for (at, new), message in cases.items():
        with pytest.raises(ValueError, match=message):
            Header.read(change(tiny, tmp_path, at, new))


def test_a_token_that_comes_twice_is_refused(tiny, tmp_path):
    quotes, hash_sign = (struct.pack("<Q", 1) + token for token in (b'"', b"#"))
    path = tmp_path / "twin.gguf"
    path.write_bytes(tiny.read_bytes().replace(hash_sign, quotes, 1))
    with pytest.raises(ValueError, match="has the same token twice"):
        Header.read(path)


def test_an_alignment_that_is_no_power_of_two_is_refused(tmp_path):
    path = write_llama(tmp_path / "odd.gguf", general__alignment=32)
    data = path.read_bytes()
    at = data.index(b"general.alignment") + len(b"general.alignment") + 4
    path.write_bytes(data[:at] + struct.pack("<I", 33) + data[at + 4 :])
    with pytest.raises(ValueError, match=r"general\.alignment must be a power of two; got 33"):
        Header.read(path)
