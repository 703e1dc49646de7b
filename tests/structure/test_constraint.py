"""One answer under its grammar, token by token."""

from __future__ import annotations

import json

import pytest

from deepen_llm.config import SamplingParams
from deepen_llm.errors import GrammarError
from deepen_llm.structure import Constraint, Room, StructureCompiler
from deepen_llm.structure.completion import find_completion
from tests.vocabularies import load_toy

WIDE = Room(1000, 1000)
NAME = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


def constrain(kind="gpt2", *, after_space=False, **structure) -> Constraint:
    compiler = StructureCompiler(load_toy(kind))
    return Constraint(compiler, compiler.compile(SamplingParams(**structure), after_space=after_space))


def follow_forced(constraint: Constraint, kind="gpt2") -> str:
    """Take in what can only come, and return it."""
    ids = []
    while (token_id := constraint.next_forced()) is not None:
        constraint.push(token_id)
        ids.append(token_id)
    return load_toy(kind).join(ids).decode()


def say(constraint: Constraint, text: str, kind="gpt2") -> None:
    for token_id in load_toy(kind).encode(text, at_start=False):
        assert constraint.allowed()[token_id]
        constraint.push(token_id)


def allowed_texts(constraint: Constraint, kind="gpt2") -> set[bytes | None]:
    vocabulary = load_toy(kind)
    return {vocabulary.tokens[token_id] for token_id in constraint.allowed().nonzero().flatten().tolist()}


@pytest.mark.parametrize("kind", ["gpt2", "llama", "unigram", "tiktoken"])
def test_only_tokens_that_go_on_with_the_structure_are_allowed(kind):
    constraint = constrain(kind, regex="(yes|no)")
    assert allowed_texts(constraint, kind) <= {b"y", b"ye", b"yes", b"n", b"no"}
    assert {b"y", b"n"} <= allowed_texts(constraint, kind)


def test_the_end_is_allowed_where_the_answer_is_whole_and_only_there():
    vocabulary = load_toy("gpt2")
    constraint = constrain(regex="a+")
    assert not constraint.allowed()[vocabulary.eos_ids[0]]
    assert not constraint.may_end()
    say(constraint, "a")
    assert constraint.allowed()[vocabulary.eos_ids[0]]
    assert constraint.may_end() and not constraint.is_complete


def test_what_can_only_come_is_forced_and_then_the_answer_is_complete():
    constraint = constrain(json_schema={"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]})
    assert follow_forced(constraint) == '{"a": 1}'
    assert constraint.is_complete and not constraint.is_shortened


def test_nothing_is_forced_where_there_is_a_choice():
    constraint = constrain(json_schema=NAME)
    assert follow_forced(constraint).startswith('{"name": ')
    say(constraint, "Ada")
    assert constraint.next_forced() is None


@pytest.mark.parametrize("kind", ["gpt2", "llama without bytes", "unigram"])
def test_special_and_padded_tokens_are_never_allowed(kind):
    constraint = constrain(kind, regex="(.|\\n)*")
    vocabulary = load_toy(kind)
    assert constraint.allowed().shape == (len(vocabulary),)
    allowed = set(constraint.allowed().nonzero().flatten().tolist())
    assert allowed <= {i for i, token in enumerate(vocabulary.tokens) if token} | set(vocabulary.eos_ids)


def test_a_token_that_may_not_come_is_an_error_and_no_end():
    constraint = constrain(regex="yes")
    with pytest.raises(GrammarError, match=r"cannot be followed on: .*n"):
        constraint.push(load_toy("gpt2").encode("n", at_start=False)[0])


def test_a_token_for_which_there_is_room_is_taken_as_it_is():
    constraint = constrain(json_schema=NAME)
    follow_forced(constraint)
    token_id = load_toy("gpt2").encode("A", at_start=False)[0]
    assert constraint.steer(token_id, WIDE) == token_id
    assert not constraint.is_shortened


@pytest.mark.parametrize("num_spare", range(6))
def test_the_completion_begins_when_there_is_just_room_for_it(num_spare):
    vocabulary = load_toy("gpt2")
    constraint = constrain(json_schema=NAME)
    begin = follow_forced(constraint)
    num_left, text = 2 + num_spare, begin  # two tokens close it at most: '"' and '}'
    token_id = vocabulary.encode("z", at_start=False)[0]
    while num_left and not constraint.is_complete:
        forced = constraint.next_forced()
        taken = constraint.steer(token_id if forced is None else forced, Room(num_left, 1000))
        constraint.push(taken)
        text += vocabulary.join([taken]).decode()
        num_left -= 1
    assert constraint.is_complete and constraint.is_shortened
    assert len(json.loads(text)["name"]) in (num_spare, num_spare + 1)


def test_room_in_another_member_counts_as_well():
    constraint = constrain(json_schema=NAME)
    follow_forced(constraint)
    token_id = load_toy("gpt2").encode("z", at_start=False)[0]
    assert constraint.steer(token_id, Room(10, 2)) != token_id
    assert constraint.is_shortened


def test_where_no_completion_fits_tokens_are_taken_as_they_are():
    constraint = constrain(json_schema=NAME)
    follow_forced(constraint)
    token_id = load_toy("gpt2").encode("z", at_start=False)[0]
    assert constraint.steer(token_id, Room(1, 1)) == token_id


def test_an_answer_that_is_whole_ends_rather_than_begin_what_does_not_fit():
    vocabulary = load_toy("gpt2")
    constraint = constrain(regex="a(bcdefghijklmnop)?")
    say(constraint, "a")
    b = vocabulary.encode("b", at_start=False)[0]
    assert constraint.steer(b, Room(3, 1000)) in vocabulary.eos_ids


def test_the_way_out_is_the_end_a_closing_piece_or_nothing():
    vocabulary = load_toy("gpt2")
    whole = constrain(regex="a+")
    assert whole.way_out() is None
    say(whole, "a")
    assert whole.way_out() in vocabulary.eos_ids
    constraint = constrain(json_schema=NAME)
    follow_forced(constraint)
    assert constraint.way_out() is None  # nothing was said yet
    say(constraint, "Ada")
    assert vocabulary.tokens[constraint.way_out()].startswith(b'"')


def test_where_more_has_to_be_said_first_there_is_no_way_out():
    constraint = constrain(json_schema={"type": "string", "minLength": 20})
    follow_forced(constraint)
    say(constraint, "Ada")
    assert constraint.way_out() is None
    say(constraint, " of the long name here")
    assert constraint.way_out() is not None


def test_a_search_that_found_nothing_that_fits_is_not_made_at_every_token(monkeypatch):
    searches = []
    monkeypatch.setattr(
        "deepen_llm.structure.constraint.find_completion",
        lambda *given, **limits: searches.append(1) or find_completion(*given, **limits),
    )
    constraint = constrain(regex="[a-z]{300,400}x{3}")
    token_id = load_toy("gpt2").encode("z", at_start=False)[0]
    for num_left in range(60, 0, -1):
        assert constraint.steer(token_id, Room(num_left, 1000)) == token_id
        constraint.push(token_id)
    assert len(searches) < 8


def test_a_way_out_that_was_not_found_is_not_searched_for_at_every_token(monkeypatch):
    searches = []
    monkeypatch.setattr("deepen_llm.structure.constraint.find_completion", lambda *given, **limits: searches.append(1))
    constraint = constrain(json_schema={"type": "array", "minItems": 300, "items": {"type": "string", "minLength": 5}})
    follow_forced(constraint)
    token_id = load_toy("gpt2").encode("z", at_start=False)[0]
    constraint._completion = None
    for _ in range(60):
        constraint.next_forced()
        constraint.push(token_id)
        assert constraint.way_out() is None
    assert 1 <= len(searches) <= 4


def test_behind_what_opens_a_value_there_is_no_way_out():
    constraint = constrain(
        json_schema={"anyOf": [{"type": "array", "items": {"type": "integer"}}, {"type": "integer"}]}
    )
    say(constraint, "[")
    assert constraint.way_out() is None


@pytest.mark.parametrize(
    ("structure", "named"),
    [
        (
            {"json_schema": {"properties": {"a": {"type": "array", "uniqueItems": True}}}},
            r"\$.properties.a.*uniqueItems",
        ),
        ({"json_schema": {"type": "strin"}}, "strin"),
        ({"json_schema": {"$ref": "#/nowhere"}}, "/nowhere"),
        ({"json_schema": {"enum": []}}, "anyOf is empty|Unsatisfiable"),
        ({"json_schema": {"$ref": "https://example.org/schema"}}, "example.org"),
        ({"regex": "(a"}, "unclosed group"),
        ({"regex": "(?=a)b"}, "look-ahead"),
        ({"grammar": "start: nothing"}, "nothing"),
        ({"grammar": "no start at all"}, "grammar cannot be read"),
    ],
)
def test_what_cannot_be_expressed_is_refused_by_name(structure, named):
    with pytest.raises(GrammarError, match=named):
        constrain(**structure)


def test_a_vocabulary_that_cannot_begin_is_refused_by_what_it_lacks():
    assert 0xF0 not in StructureCompiler(load_toy("llama without bytes")).expressible
    with pytest.raises(GrammarError, match=r"begins with '𐍈'.*'llama without bytes' has no token.*main model"):
        constrain("llama without bytes", regex="𐍈+")


def test_the_same_structure_is_compiled_once_and_the_oldest_is_forgotten():
    compiler = StructureCompiler(load_toy("gpt2"))
    first = compiler.compile(SamplingParams(regex="x0"))
    assert compiler.compile(SamplingParams(regex="x0", temperature=1.0)) is first
    assert compiler.compile(SamplingParams(regex="x0"), after_space=True) is not first
    for number in range(1, 64):
        compiler.compile(SamplingParams(regex=f"x{number}"))
    assert compiler.compile(SamplingParams(regex="x0")) is not first
