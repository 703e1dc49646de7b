"""How large a grammar may be: what is refused before llguidance sees it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from deepen_llm import SamplingParams
from deepen_llm.errors import GrammarError
from deepen_llm.structure import check_structure
from deepen_llm.structure.grammar_limits import MAX_RULES


def chain(number: int) -> str:
    rules = [f"r{n}: r{n + 1}" for n in range(number)]
    return "\n".join(["start: r0", *rules, f'r{number}: "x"'])


def test_a_chain_of_5000_rules_is_a_grammar_error():
    with pytest.raises(GrammarError, match="the grammar has at most 2,000 rules and alternatives; got 5,002"):
        check_structure(SamplingParams(grammar=chain(5000)))


def test_the_longest_chain_that_passes_does_not_end_the_process():
    # In a child: what overflows a stack takes the process with it.
    program = (
        "from deepen_llm import SamplingParams; from deepen_llm.structure import check_structure\n"
        "from tests.structure.test_grammar_limits import *\n"
        "check_structure(SamplingParams(grammar=chain(MAX_RULES - 2)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0


@pytest.mark.parametrize(
    ("grammar", "message"),
    [
        ("#" * 500_001, "at most 500,000 characters"),
        (f'start: "{"x" * 20_001}"', "at most 20,000 characters in a text or pattern"),
        ("start: " + " | ".join(f'"{n}"' for n in range(3000)), "at most 2,000 rules and alternatives; got 3,000"),
        ("start: a~1..100000\na: /x/", "repeats a part at most 10,000 times; got 100000"),
        ("start: /x{1,100000}/", "repeats a part at most 10,000 times"),
        ("start: a\n" + "\n".join(f"a{n}: a{n + 1} a{n}" for n in range(400)), "rules that lead back to themselves"),
        ('start: %json {"type": "array", "items": ' + '{"items": ' * 200 + "{}" + "}" * 201, "at most 100 levels deep"),
        ("start: %json " + '{"items": ' * 100_000, "."),
    ],
)
def test_what_is_too_large_is_refused_with_the_limit(grammar, message):
    with pytest.raises(GrammarError, match=message):
        check_structure(SamplingParams(grammar=grammar))


@pytest.mark.parametrize(
    "grammar",
    [
        chain(500),
        "start: /" + "|".join(f"word{n}" for n in range(2000)) + "/",
        'start: e\ne: t | e "+" t\nt: f | t "*" f\nf: /[0-9]+/ | "(" e ")"',
        'start: "a: b | c: d" a~3..5\na: /x{2,9}|y/ // e: f\n# g: h',
        f"start: %json {json.dumps({'properties': {f'p{n}': {'type': 'string'} for n in range(200)}})}",
    ],
)
def test_what_people_write_passes(grammar):
    check_structure(SamplingParams(grammar=grammar))


def test_the_limit_is_above_any_grammar_by_hand():
    assert MAX_RULES >= 1000
