from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepen_llm.compatibility.excerpts import read_excerpts

LINES = "".join(f"Line {number}: the fox ran home.\n" for number in range(400))


@pytest.fixture
def write(tmp_path):
    """A file with this text, or these bytes."""

    def write_it(content):
        file = tmp_path / "text"
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return file

    return write_it


@pytest.mark.parametrize("text", ["", "a", "two words", " \r\n x \t", "é" * 50])
def test_a_file_up_to_the_limit_is_read_whole_and_as_it_is(write, text):
    assert read_excerpts(write(text), 100) == [text]


def test_a_larger_file_gives_whole_lines_from_beginning_to_end_and_no_more_than_the_limit(write):
    excerpts = read_excerpts(write(LINES), 1000, excerpt_bytes=200)
    assert len(excerpts) == 5
    assert sum(map(len, excerpts)) <= 1000
    lines = LINES.splitlines()
    places = [[lines.index(line) for line in excerpt.splitlines()] for excerpt in excerpts]
    assert places[0][0] == 0 and places[-1][-1] == 399
    assert all(b > a for one, two in pairwise(places) for a in one for b in two), "no overlap"


def test_without_lines_an_excerpt_has_whole_words(write):
    words = " ".join(f"word{number}" for number in range(1000))
    for excerpt in read_excerpts(write(words), 300, excerpt_bytes=100):
        assert set(excerpt.split()) <= set(words.split())


@pytest.mark.parametrize("character", ["é", "漢", "🙂"])
@pytest.mark.parametrize("offset", range(4))
def test_without_spaces_no_character_is_cut(write, character, offset):
    excerpts = read_excerpts(write("a" * offset + character * 500), 90, excerpt_bytes=30)
    assert all(set(excerpt) <= {"a", character} and len(excerpt) >= 6 for excerpt in excerpts)


@pytest.mark.parametrize(
    "data", [b"\xff" * 500, b"\x80" * 500, ("a" * 495).encode() + "é".encode()[:1], "ü".encode("latin-1") * 500]
)
def test_what_is_no_utf_8_is_refused_also_in_excerpts(write, data):
    with pytest.raises(UnicodeDecodeError):
        read_excerpts(write(data), 90, excerpt_bytes=30)


@settings(deadline=None, max_examples=60)
@given(text=st.text(alphabet="ab é漢🙂\n", min_size=1, max_size=400), limit=st.integers(40, 200))
def test_every_excerpt_is_part_of_the_text_and_they_keep_to_the_limit(tmp_path_factory, text, limit):
    file = tmp_path_factory.mktemp("excerpts") / "text"
    file.write_bytes(text.encode())
    excerpts = read_excerpts(file, limit, excerpt_bytes=40)
    assert all(excerpt in text for excerpt in excerpts)
    assert sum(len(excerpt.encode()) for excerpt in excerpts) <= limit
