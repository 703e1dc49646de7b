"""Calls read piece by piece: however an answer is cut into pieces, the calls are the same."""

import pytest

from deepen_llm.frontends.tools import CallPiece, CallReader, write_call

ARGUMENTS = '{"a": [1, {"b": "}\\\\\\" {"}], "c": {}}'
CALL = '{"name": "add", "arguments": ' + ARGUMENTS + "}"
PARSED = {"a": [1, {"b": '}\\" {'}], "c": {}}


def run(pieces, **options):
    """The reader after the pieces, the text it gave away, and the pieces of calls by their index."""
    reader = CallReader(**options)
    given = [reader.push(piece, is_last=n == len(pieces) - 1) for n, piece in enumerate(pieces)]
    by_index: dict[int, list[CallPiece]] = {}
    for _, calls in given:
        assert len({piece.index for piece in calls}) == len(calls), "two pieces of one call at a time"
        for piece in calls:
            by_index.setdefault(piece.index, []).append(piece)
    return reader, "".join(text for text, _ in given), by_index


def cut_every(text, size):
    return [text[start : start + size] for start in range(0, len(text), size)]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_a_call_is_the_same_however_it_is_cut(size):
    reader, text, pieces = run(cut_every(CALL, size))
    (call,) = reader.calls
    assert (reader.is_whole, text) == (True, "")
    assert (call.name, call.arguments, call.values) == ("add", ARGUMENTS, PARSED)
    assert (pieces[0][0].name, pieces[0][0].id) == ("add", call.id)
    assert all((piece.name, piece.id) == (None, None) for piece in pieces[0][1:])
    assert "".join(piece.arguments for piece in pieces[0]) == ARGUMENTS


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_calls_on_lines_of_their_own_are_calls_of_their_own(size):
    reader, _, pieces = run(cut_every(CALL + "\n" + write_call("now", {}), size))
    assert [(call.name, call.values) for call in reader.calls] == [("add", PARSED), ("now", {})]
    assert [pieces[n][0].id for n in range(2)] == [call.id for call in reader.calls]
    assert reader.is_whole


def test_the_name_comes_first_and_the_arguments_as_they_come():
    reader = CallReader()
    assert reader.push('{"name": "add", "arg') == ("", [])
    assert reader.push('uments": {"a"') == ("", [CallPiece(0, '{"a"', reader.calls[0].id, "add")])
    assert reader.push(": 1}") == ("", [CallPiece(0, ": 1")])
    assert reader.push("}") == ("", [CallPiece(0, "}")])
    assert reader.push("", is_last=True) == ("", [])


def test_text_is_given_away_at_once():
    reader = CallReader()
    assert reader.push("Hel") == ("Hel", [])
    assert reader.push('lo {"name": ') == ('lo {"name": ', [])
    assert reader.push("\n{", is_last=True) == ("\n{", [])
    assert not reader.is_whole and reader.calls == []


def test_a_stop_string_cuts_a_text_and_no_call():
    reader, text, _ = run(["Hello\nO", "bs"], stop=["\nObs"])
    assert (text, reader.is_stopped) == ("Hello", True)
    reader, text, _ = run(["Hello\nO"], stop=["\nObs"])
    assert (text, reader.is_stopped) == ("Hello\nO", False)
    reader, _, _ = run([CALL], stop=["name"])
    assert reader.is_whole


@pytest.mark.parametrize("length", range(1, len(CALL)))
def test_a_call_that_was_cut_is_never_whole_and_nothing_of_it_is_lost(length):
    reader, text, pieces = run(cut_every(CALL[:length], 4))
    (call,) = reader.calls
    assert (reader.is_whole, call.is_whole, text) == (False, False, "")
    head = "" if call.name is None else '{"name": "add", "arguments": '
    assert head + call.arguments == CALL[:length]
    assert "".join(piece.arguments for piece in pieces[0]) == call.arguments
    assert (pieces[0][0].id, pieces[0][0].name) == (call.id, call.name)


def test_an_empty_first_piece_decides_nothing():
    reader, _, _ = run(["", CALL])
    assert reader.is_whole


def test_an_empty_answer_is_no_call():
    reader, text, pieces = run([""])
    assert (text, pieces, reader.is_whole) == ("", {}, False)


def test_of_two_calls_the_one_that_was_cut_is_not_whole():
    reader, _, _ = run([CALL + '\n{"name": "now", "argu'])
    assert [call.is_whole for call in reader.calls] == [True, False]
    assert not reader.is_whole


def test_calls_are_read_as_they_are_written():
    reader, _, _ = run([write_call('sü"ß', {"a": "ä\n"})])
    assert (reader.calls[0].name, reader.calls[0].values) == ('sü"ß', {"a": "ä\n"})


def test_arguments_that_are_no_object_make_no_whole_call():
    reader, _, _ = run([write_call("add", "[1]")])
    assert not reader.is_whole
