"""Questions to the bundled models to choose weights on: of the kinds of the tasks, and none of theirs.

No prompt occurs in training or in a task: the phrasings are the held-out ones, each asked about another country or
element than in the tasks, the operands are held out, and the passages are written anew.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from deepen_llm.starter import TASKS
from deepen_llm.starter.arithmetic import HELD_OUT_QUESTIONS, OPERATIONS, is_held_out, operand_pairs, write_steps
from deepen_llm.starter.capitals import CAPITALS, HELD_OUT_CAPITAL_QUESTIONS
from deepen_llm.starter.elements import ELEMENT_PARTS, HELD_OUT_NUMBER_QUESTIONS, HELD_OUT_SYMBOL_QUESTIONS
from deepen_llm.starter.passages import Cast, ask, make_statements, write_passage
from deepen_llm.starter.prompts import QUESTION_ANSWER, Example, write_plain
from deepen_llm.starter.tasks import heldout_documents, load_task

SEED = 5
NUM_ROWS = 24
"""Rows of each kind, a third for each part."""
Row = tuple[str, str]
Thing = TypeVar("Thing")


def development_pairs() -> tuple[Row, ...]:
    """Prompts and answers, as many of each kind; answers begin with a space and end with the line, worked sums whole.

    Always the same.
    """
    reported = {question.prompt for task in TASKS for question in load_task(task)}
    documents = "\n".join(heldout_documents())

    def is_fresh(row: Row) -> bool:
        return row[0] not in reported and row[0] not in documents

    pairs: list[Row] = []
    for write in (_capitals, _elements, _arithmetic, _reading):
        asked = (next(filter(is_fresh, phrasings), None) for phrasings in write(random.Random(SEED)))
        pairs += itertools.islice(filter(None, asked), NUM_ROWS)
    return tuple(pairs)


def _row(kind: str, question: str, answer: str, context: str = "") -> Row:
    prompt, said = write_plain(Example(kind, context, ((question, answer),)), QUESTION_ANSWER)
    return prompt.text, said.text


def _in_turn(parts: Iterable[Sequence[Thing]], rng: random.Random) -> Iterator[Thing]:
    """One of each part in turn, shuffled within each."""
    for together in zip(*(rng.sample(part, len(part)) for part in parts), strict=False):
        yield from together


def _capitals(rng: random.Random) -> Iterator[list[Row]]:
    """For every country, the ways to ask for its capital."""
    for country, capital in _in_turn(CAPITALS, rng):
        phrasings = rng.sample(HELD_OUT_CAPITAL_QUESTIONS, len(HELD_OUT_CAPITAL_QUESTIONS))
        yield [_row("capitals", phrasing.format(country), capital) for phrasing in phrasings]


def _elements(rng: random.Random) -> Iterator[list[Row]]:
    """For every element, the ways to ask for its symbol or its number."""
    for turn, element in enumerate(_in_turn(ELEMENT_PARTS, rng)):
        is_symbol = turn // len(ELEMENT_PARTS) % 2 == 0
        phrasings = HELD_OUT_SYMBOL_QUESTIONS if is_symbol else HELD_OUT_NUMBER_QUESTIONS
        answer = element.symbol if is_symbol else str(element.number)
        yield [_row("elements", phrasing.format(element.name), answer) for phrasing in phrasings]


def _arithmetic(rng: random.Random) -> Iterator[list[Row]]:
    for operation in itertools.cycle(OPERATIONS):
        pair = rng.choice([pair for pair in operand_pairs(operation) if is_held_out(*pair)])
        question = rng.choice(HELD_OUT_QUESTIONS[operation]).format(*pair)
        yield [_row("arithmetic", question, write_steps(operation, *pair))]


def _reading(rng: random.Random) -> Iterator[list[Row]]:
    while True:
        statements = make_statements(Cast.draw(rng, held_out=True), rng.randint(1, 5))
        asked = rng.choice(statements)
        context = write_passage(rng, statements, num_documents=1)
        yield [_row("reading", ask(rng, asked, held_out=True), asked.value, context)]
