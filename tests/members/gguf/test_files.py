"""Which files belong to a model, and what is refused of them."""

from __future__ import annotations

import random

import pytest
import torch

from deepen_llm import MemberConfig
from deepen_llm.errors import DeepenError, MemberError
from deepen_llm.members.gguf.files import GGUFFiles
from deepen_llm.members.gguf.header import Header
from deepen_llm.members.gguf.library import load_library
from tests.gguf_models import write_llama

NUM_DAMAGED = 200


def refuse(place, message):
    with pytest.raises(MemberError, match=message) as caught:
        GGUFFiles.find(str(place), "one", load_library())
    assert str(caught.value).startswith("member 'one' cannot be loaded from ")


def test_what_is_no_gguf_file_says_what_it_is(tmp_path, tiny):
    (tmp_path / "text.gguf").write_text("Once upon a time")
    (tmp_path / "folder.gguf").mkdir()
    refuse(tmp_path / "text.gguf", "text.gguf: it does not begin with 'GGUF'")
    refuse(tmp_path / "none.gguf", "there is no such file")
    refuse(tmp_path / "folder.gguf", "this is a folder: give one .gguf file")
    refuse(tiny.parent, "this is a folder; it has .*'tiny.gguf'.*: give one .gguf file")


def test_a_file_that_is_cut_short_says_how_much_there_is(tmp_path, tiny):
    data = tiny.read_bytes()
    (tmp_path / "short.gguf").write_bytes(data[:-1000])
    refuse(tmp_path / "short.gguf", f"is cut short: tensor .* ends at byte .*, and the file has {len(data) - 1000:,}")


def test_parts_are_found_by_their_names(tmp_path, tiny):
    first, second = tmp_path / "big-00001-of-00002.gguf", tmp_path / "big-00002-of-00002.gguf"
    first.write_bytes(tiny.read_bytes())
    refuse(first, "its part 'big-00002-of-00002.gguf' is not there: put all 2 parts into one folder")
    second.write_bytes(tiny.read_bytes())
    assert [header.path for header in GGUFFiles.find(str(first), "one", load_library()).headers] == [first, second]
    refuse(second, "this is part 2 of 2: give the first one")


def test_a_part_by_another_name_is_refused(tmp_path):
    refuse(write_llama(tmp_path / "part.gguf", split__count=3), "is a part of 3: give it the name by which it was")


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("block_count", 513, "says block_count=513, where 0 to 512 can be"),
        ("attention_head_count_kv", 1 << 20, "says attention.head_count_kv=1048576"),
        ("llama__attention__some_epsilon", -1.0, "epsilon=-1.0, which cannot be"),
        ("llama__rope__scale", float("nan"), "scale=nan, which cannot be"),
    ],
)
def test_settings_that_end_the_process_are_refused(tmp_path, setting, value, message):
    refuse(write_llama(tmp_path / "set.gguf", **{setting: value}), message)


def test_tensors_of_unknown_formats_or_over_each_other_are_refused(tmp_path, tiny):
    data = bytearray(tiny.read_bytes())
    at = data.index(b"token_embd.weight") + len(b"token_embd.weight") + 4 + 16
    for number, message in ((4, "is of the number format 4"), (99, "is of the number format 99")):
        data[at : at + 4] = number.to_bytes(4, "little")
        (tmp_path / "bad.gguf").write_bytes(data)
        refuse(tmp_path / "bad.gguf", message)
    data[at : at + 4], data[at + 4 : at + 12] = bytes(4), (4096).to_bytes(8, "little")
    (tmp_path / "bad.gguf").write_bytes(data)
    refuse(tmp_path / "bad.gguf", "lies over the one before it")


def test_the_fingerprint_is_that_of_what_the_file_holds(tmp_path, tiny):
    find = GGUFFiles.find
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(tiny.read_bytes())
    one, same = (find(str(path), "one", load_library()).fingerprint for path in (tiny, copy))
    other = find(str(write_llama(tmp_path / "other.gguf", seed=1)), "one", load_library()).fingerprint
    assert one == same != other


def test_damaged_files_are_refused_and_never_end_the_process(tmp_path, tiny):
    data, draw = tiny.read_bytes(), random.Random(0)
    end = min(tensor.offset for tensor in Header.read(tiny).tensors.values())
    path, num_refused = tmp_path / "damaged.gguf", 0
    for number in range(NUM_DAMAGED):
        damaged = bytearray(data)
        if number % 4 == 0:
            del damaged[draw.randrange(len(data)) :]
        else:
            damaged[draw.randrange(700 if number % 2 else end)] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        try:
            member = MemberConfig(model=path, context=16, cache_tokens=512, rows=1).load()
            with torch.inference_mode():
                member.extend({member.open(): [5, 6, 7]})
            member.close()
        except DeepenError:
            num_refused += 1
    assert NUM_DAMAGED // 3 < num_refused < NUM_DAMAGED
