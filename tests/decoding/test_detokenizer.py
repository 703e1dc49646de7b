from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from deepen_llm.decoding.detokenizer import Detokenizer

FAMILY = "👩‍👩‍👧".encode()


@st.composite
def split_bytes(draw: st.DrawFn) -> list[bytes]:
    """Valid and invalid UTF-8 in pieces."""
    data = draw(
        st.text().map(str.encode)
        | st.binary()
        | st.lists(st.text().map(str.encode) | st.binary(max_size=3)).map(b"".join)
    )
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=len(data))))
    return [data[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@given(pieces=split_bytes())
@example([b"\xe3", b"\x81"])
@example([b"\xed", b"\xa0", b"\x80"])
@example([b"\xf0\x9f", b"\x98", b"A"])
def test_the_pieces_join_to_the_text_of_all_bytes_however_they_are_split(pieces):
    detokenizer = Detokenizer()
    released, data = "", b""
    for piece in pieces:
        released += detokenizer.push(piece)
        data += piece
        assert len(detokenizer.open_bytes) < 4
        assert data.endswith(detokenizer.open_bytes)
        assert data[: len(data) - len(detokenizer.open_bytes)].decode("utf-8", "replace") == released
    assert released + detokenizer.flush() == data.decode("utf-8", "replace")
    assert detokenizer.open_bytes == b""


def test_a_character_is_released_with_its_last_byte():
    detokenizer = Detokenizer()
    released = [detokenizer.push(bytes((byte,))) for byte in "é👍".encode()]
    assert released == ["", "é", "", "", "", "👍"]


def test_open_bytes_are_those_of_the_character_in_progress():
    detokenizer = Detokenizer()
    assert detokenizer.push(b"a" + FAMILY[:3]) == "a"
    assert detokenizer.open_bytes == FAMILY[:3]
    assert detokenizer.push(FAMILY[3:]) == FAMILY.decode()
    assert detokenizer.open_bytes == b""


def test_invalid_bytes_come_out_as_soon_as_they_are_known_to_be_invalid():
    detokenizer = Detokenizer()
    assert detokenizer.push(b"\xff") == "\ufffd"
    assert detokenizer.push(b"\xe3") == ""
    assert detokenizer.push(b"b") == "\ufffdb"


def test_unfinished_bytes_come_out_at_the_end():
    detokenizer = Detokenizer()
    detokenizer.push(b"\xe3\x81")
    assert detokenizer.flush() == "\ufffd"


def test_one_leading_space_is_dropped_where_it_is_the_tokenizers_own():
    detokenizer = Detokenizer(num_spaces=1)
    assert [detokenizer.push(piece) for piece in (b"", b" ", b" a", b" b")] == ["", "", " a", " b"]
    assert Detokenizer(num_spaces=1).push(b"a b") == "a b"
    assert Detokenizer().push(b" a") == " a"
