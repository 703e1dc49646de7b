from __future__ import annotations

import pytest

from deepen_llm.compatibility.sample import MAX_BYTES, SAMPLE, load_sample
from deepen_llm.errors import ConfigError


def test_the_built_in_sample_has_text_of_several_sorts():
    sample = load_sample().texts
    assert list(sample) == ["story", "prose", "questions", "list", "code", "languages"]
    assert all(len(text) > 150 and text.endswith("\n") for text in sample.values())
    assert any(character.isdigit() for character in sample["list"])
    assert "    " in sample["code"]
    assert not sample["languages"].isascii()


def test_the_built_in_sample_cannot_be_changed_through_what_is_handed_out():
    load_sample().texts.clear()
    assert SAMPLE


def test_a_file_takes_its_place_exactly_as_it_is(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_bytes("Grüße,\r\n\tOskar".encode())
    sample = load_sample([file])
    assert sample.texts == {"prompts.txt": "Grüße,\r\n\tOskar"}
    assert sample.num_bytes == sample.num_read_bytes == 16
    assert sample.is_own and not load_sample().is_own


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nothing\.txt.*No such file"):
        load_sample([tmp_path / "nothing.txt"])


def test_a_folder_is_no_text_file(tmp_path):
    with pytest.raises(ConfigError, match="must be a text file at"):
        load_sample([str(tmp_path)])


def test_a_file_that_is_not_utf_8_is_refused(tmp_path):
    file = tmp_path / "latin1.txt"
    file.write_bytes("Grüße".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin1\.txt.*UTF-8"):
        load_sample([file])


@pytest.mark.parametrize("text", ["", " \n\t\n"])
def test_a_file_without_text_is_refused(tmp_path, text):
    file = tmp_path / "blank.txt"
    file.write_text(text)
    with pytest.raises(ConfigError, match="must hold some text"):
        load_sample([file])


def test_of_a_large_file_excerpts_are_read_and_both_sizes_are_told(tmp_path):
    file = tmp_path / "long.txt"
    file.write_text("".join(f"Line {number} of a long text.\n" for number in range(5000)))
    sample = load_sample([file])
    assert MAX_BYTES / 2 < sample.num_read_bytes <= MAX_BYTES
    assert sample.num_bytes == file.stat().st_size
    assert next(iter(sample.texts)) == "long.txt (1 of 16)"
    assert "Line 0 " in sample.texts["long.txt (1 of 16)"] and "Line 4999 " in sample.texts["long.txt (16 of 16)"]
    assert load_sample([file]) == sample, "the same every time"


def test_small_files_are_read_whole_and_large_ones_share_the_rest(tmp_path):
    for name, size in (("small", 100), ("large", 40_000), ("larger", 90_000)):
        (tmp_path / name).write_text("four " * (size // 5))
    sample = load_sample([tmp_path / name for name in ("large", "small", "larger")], max_bytes=8100)
    assert sample.texts["small"] == "four " * 20
    for name in ("large", "larger"):
        read = sum(len(text) for key, text in sample.texts.items() if key.startswith(f"{name} ("))
        assert 3900 < read <= 4000
    assert sample.num_bytes == 130_100


def test_files_of_one_name_are_told_apart_and_one_given_twice_counts_once(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "text").write_text(f"from {folder}")
    files = [tmp_path / "a" / "text", tmp_path / "b" / "text", tmp_path / "a" / "text"]
    assert load_sample(files).texts == {str(files[0]): "from a", str(files[1]): "from b"}


def test_of_several_files_the_one_without_text_is_named(tmp_path):
    (tmp_path / "full").write_text("some text")
    (tmp_path / "empty").write_text("")
    with pytest.raises(ConfigError, match=r"empty' must hold some text"):
        load_sample([tmp_path / "full", tmp_path / "empty"])
