from __future__ import annotations

import pytest

from deepen_llm.compatibility.sample import SAMPLE, load_sample
from deepen_llm.errors import ConfigError


def test_the_built_in_sample_has_text_of_several_sorts():
    sample = load_sample()
    assert list(sample) == ["story", "prose", "questions", "list", "code", "languages"]
    assert all(len(text) > 150 and text.endswith("\n") for text in sample.values())
    assert any(character.isdigit() for character in sample["list"])
    assert "    " in sample["code"]
    assert not sample["languages"].isascii()


def test_the_built_in_sample_cannot_be_changed_through_what_is_handed_out():
    load_sample().clear()
    assert SAMPLE


def test_a_file_takes_its_place_exactly_as_it_is(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_bytes("Grüße,\r\n\tOskar".encode())
    assert load_sample(file) == {"prompts.txt": "Grüße,\r\n\tOskar"}


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nothing\.txt.*No such file"):
        load_sample(tmp_path / "nothing.txt")


def test_a_folder_is_no_text_file(tmp_path):
    with pytest.raises(ConfigError, match="must be a text file at"):
        load_sample(tmp_path)


def test_a_file_that_is_not_utf_8_is_refused(tmp_path):
    file = tmp_path / "latin1.txt"
    file.write_bytes("Grüße".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin1\.txt.*UTF-8"):
        load_sample(file)


@pytest.mark.parametrize("text", ["", " \n\t\n"])
def test_a_file_without_text_is_refused(tmp_path, text):
    file = tmp_path / "blank.txt"
    file.write_text(text)
    with pytest.raises(ConfigError, match="must hold some text"):
        load_sample(file)
