"""How an unfinished text is completed."""

from __future__ import annotations

import gc
import json
import resource
import time
from typing import Literal

import pytest
from pydantic import BaseModel, Field

from deepen_llm.config import SamplingParams
from deepen_llm.errors import MemberTimeoutError
from deepen_llm.structure import Constraint, Room, StructureCompiler
from deepen_llm.structure.completion import ByteTokenizer, find_completion
from deepen_llm.structure.grammar import build_grammar
from deepen_llm.structure.matcher import Matcher
from tests.vocabularies import load_toy

BYTES = ByteTokenizer.load()
ALL = bytes(range(256))


class Item(BaseModel):
    name: str
    price: float
    tags: list[str] = Field(min_length=2)
    kind: Literal["alpha", "beta"]
    note: str | None
    rank: int = 3


class Node(BaseModel):
    value: int
    children: list[Node]
    next: Node | None


class Order(BaseModel):
    items: list[Item] = Field(min_length=3)
    node: Node
    text: str = Field(min_length=40)
    code: str = Field(pattern=r"^[A-Z]{3}-[0-9]{4}$")


def start(begin: str | bytes = b"", **structure) -> Matcher:
    matcher = Matcher(BYTES, build_grammar(SamplingParams(**structure), after_space=False))
    raw = begin.encode() if isinstance(begin, str) else begin
    assert matcher.take_all(raw) == len(raw)
    return matcher


@pytest.mark.parametrize("model", [Item, Node, Order])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.8, 1.0])
def test_what_is_completed_is_valid_wherever_it_begins(model, share):
    whole = find_completion(start(json_schema=model), ALL)
    begin = whole[: int(share * len(whole))]
    rest = find_completion(start(begin, json_schema=model), ALL)
    assert isinstance(model.model_validate_json(begin + rest), model)


@pytest.mark.parametrize(
    ("structure", "begin", "shortest"),
    [
        ({"json_schema": Node}, "", '{"value": 1, "children": [], "next": null}'),
        (
            {"json_schema": Node},
            '{"value": 1, "children": [{"v',
            'alue": 1, "children": [], "next": null}], "next": null}',
        ),
        ({"json_schema": {"type": "array", "minItems": 20, "items": {"type": "string"}}}, "", json.dumps([""] * 20)),
        ({"json_schema": {"type": "string"}}, '"a\\', '""'),
        ({"regex": "(cat|elephant) says hi+"}, "", "cat says hi"),
        ({"grammar": 'start: "a" start | "b"'}, "aaa", "b"),
    ],
)
def test_the_completion_is_the_shortest(structure, begin, shortest):
    assert find_completion(start(begin, **structure), ALL).decode() == shortest


def test_a_character_that_has_begun_is_completed_first():
    begin = '"é'.encode()[:-1]
    rest = find_completion(start(begin, json_schema={"type": "string"}), ALL)
    assert len(json.loads(begin + rest)) == 1


def test_nothing_is_added_to_what_is_whole():
    matcher = start("12", json_schema={"type": "integer"})
    assert find_completion(matcher, ALL) == b""


def test_a_way_round_in_circles_comes_to_an_end():
    assert find_completion(start(regex="(ab)*end"), ALL).endswith(b"end")


def test_only_bytes_that_can_be_said_are_used():
    assert find_completion(start(regex="[ab]|ccc"), b"c") == b"ccc"
    assert find_completion(start(regex="[ab]"), b"c") is None


def test_the_matcher_stays_as_it_is():
    matcher = start('{"value": 1', json_schema=Node)
    before = matcher.bitmask()
    find_completion(matcher, ALL)
    assert matcher.bitmask() == before


def doubling(number: int) -> dict:
    """1.8 kB, of which the least answer has 2 ** (number - 1) integers."""
    defs: dict = {"d0": {"type": "integer"}}
    for n in range(1, number):
        one = {"$ref": f"#/$defs/d{n - 1}"}
        defs[f"d{n}"] = {"type": "object", "properties": {"a": one, "b": one}, "required": ["a", "b"]}
    return {"$defs": defs, "$ref": f"#/$defs/d{number - 1}"}


ENDLESS = [{"json_schema": doubling(15)}, {"json_schema": {"type": "array", "minItems": 1_000_000}}]


@pytest.fixture
def without_collections():
    """No garbage is collected: after thousands of tests one collection takes longer than what is measured."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("without_collections")
@pytest.mark.parametrize("structure", ENDLESS)
def test_a_search_that_finds_nothing_ends_in_time_and_in_little_memory(structure):
    matcher = start(**structure)
    before_kb, begin_s = max_rss_kb(), time.thread_time()
    assert find_completion(matcher, ALL, max_cpu_s=0.2) is None
    assert time.thread_time() - begin_s < 1
    assert max_rss_kb() - before_kb < 200_000


def max_rss_kb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.usefixtures("without_collections")
@pytest.mark.parametrize("structure", ENDLESS)
def test_no_step_of_an_answer_keeps_others_waiting(structure):
    compiler = StructureCompiler(load_toy("gpt2"))
    constraint = Constraint(compiler, compiler.compile(SamplingParams(**structure)))
    slowest_s = 0.0
    for number in range(100, 0, -1):
        begin_s = time.thread_time()
        token_id = constraint.next_forced()
        if token_id is None:
            token_id = int(constraint.allowed().nonzero()[-1])
            constraint.way_out()
            token_id = constraint.steer(token_id, Room(number, 4 * number))
        constraint.push(token_id)
        slowest_s = max(slowest_s, time.thread_time() - begin_s)
    assert slowest_s < 0.1


def test_no_more_is_tried_than_was_allowed():
    assert find_completion(start(regex="[ab]{9}"), ALL, max_tries=0) is None
    assert find_completion(start(json_schema=Order), ALL, max_cpu_s=0.0) is None


def test_what_the_check_raises_ends_the_search():
    with pytest.raises(MemberTimeoutError):
        find_completion(start(json_schema=Order), ALL, check=refuse)


def refuse() -> None:
    raise MemberTimeoutError("the time is over")
