"""Writes `long_answers.jsonl`: questions to the starter models whose right answers take many tokens.

Of three kinds: worked arithmetic; prose that tells two facts; a short text and two questions, answered in sentences.
They come from the generators of the starter models' training text, of what training never sees (held-out operands,
names and phrasings) and of what neither the held-out tasks nor the held-out documents ask.

Run with `python -m tests.data.make_long_answers` from the root of the repository; a file that is there is replaced.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from deepen_llm.starter import TASKS
from deepen_llm.starter.arithmetic import HELD_OUT_QUESTIONS, OPERATIONS, is_held_out, operand_pairs, write_steps
from deepen_llm.starter.capitals import CAPITALS, HELD_OUT_CAPITAL_PROSE, write_capital
from deepen_llm.starter.elements import ELEMENT_PARTS, write_element
from deepen_llm.starter.passages import Cast, ask, make_statements, write_passage
from deepen_llm.starter.prompts import FORMATS, QUESTION_ANSWER, Example, Format, write_plain
from deepen_llm.starter.tasks import heldout_documents, load_task
from recipe.facts import ELEMENT_PROSE

PATH = Path(__file__).with_name("long_answers.jsonl")
SEED = "long answers"
"""A text, as the seeds of the training streams are, and none of theirs; the tasks are seeded with numbers."""
NUM_ARITHMETIC = 30
NUM_FACTS = 15
NUM_READING = 15
TWO_FACTS = ELEMENT_PROSE[2]
CUT = " has the symbol"
"""Where the sentence of two facts is cut: what follows is the answer."""


class LongAnswer(NamedTuple):
    """A prompt without a space at its end, and the right answer, which goes on after one space."""

    prompt: str
    answer: str
    kind: str


def write_prompt(question: str, *, context: str = "", form: Format = QUESTION_ANSWER) -> str:
    """The prompt as a starter model reads it."""
    return write_plain(Example("", context, ((question, ""),)), form)[0].text


def text_in_use() -> str:
    """What the held-out tasks and the held-out documents ask."""
    prompts = [question.prompt for task in TASKS for question in load_task(task)]
    return "\n".join([*prompts, "\n\n".join(heldout_documents())])


def make_arithmetic(rng: random.Random, in_use: str) -> Iterator[LongAnswer]:
    """Sums, differences and products in turn, of operands that no task asks about in any phrasing or operation."""
    phrasings = [phrasing for every in HELD_OUT_QUESTIONS.values() for phrasing in every]
    pairs = {}
    for operation in OPERATIONS:
        held_out = [pair for pair in operand_pairs(operation) if is_held_out(*pair) and pair[0] != pair[1]]
        pairs[operation] = rng.sample(held_out, len(held_out))
    asked: set[tuple[int, int]] = set()
    for i in range(NUM_ARITHMETIC):
        operation = OPERATIONS[i % len(OPERATIONS)]
        while True:
            pair = pairs[operation].pop()
            if pair not in asked and not any(phrasing.format(*pair) in in_use for phrasing in phrasings):
                break
        asked.add(pair)
        question = rng.choice(HELD_OUT_QUESTIONS[operation]).format(*pair)
        yield LongAnswer(write_prompt(question), write_steps(operation, *pair), "arithmetic")


def make_facts(rng: random.Random, in_use: str) -> Iterator[LongAnswer]:
    """Prose to go on with: a capital in a sentence that training never uses, then an element's symbol and number.

    The elements are of each member's part in turn.
    """
    elements = [rng.sample(part, NUM_FACTS) for part in ELEMENT_PARTS]
    capitals = [pair for part in CAPITALS for pair in part]
    leads = [write_capital(HELD_OUT_CAPITAL_PROSE, pair) for pair in rng.sample(capitals, len(capitals))]
    unused = (lead for lead in leads if lead not in in_use)
    for i in range(NUM_FACTS):
        stem, answer = write_element(TWO_FACTS, elements[i % len(elements)].pop()).split(CUT)
        yield LongAnswer(f"{next(unused)} {stem}{CUT}", answer.strip(), "facts")


def make_reading(rng: random.Random) -> Iterator[LongAnswer]:
    """A short text and two questions at once; the answer is the two sentences that tell it."""
    for i in range(NUM_READING):
        statements = make_statements(Cast.draw(rng, held_out=True), 3 + i % 3)
        context = write_passage(rng, statements, num_documents=1)
        asked = rng.sample(statements, 2)
        question = " ".join(ask(rng, statement, held_out=True) for statement in asked)
        prompt = write_prompt(question, context=context, form=FORMATS[i % 3])
        yield LongAnswer(prompt, " ".join(statement.text for statement in asked), "reading")


def make_long_answers() -> list[LongAnswer]:
    """All questions, always the same, one kind after the other."""
    rng = random.Random(SEED)
    in_use = text_in_use()
    return [*make_arithmetic(rng, in_use), *make_facts(rng, in_use), *make_reading(rng)]


def write_lines(questions: list[LongAnswer]) -> str:
    """One JSON object a line."""
    return "".join(json.dumps(question._asdict()) + "\n" for question in questions)


if __name__ == "__main__":
    PATH.write_text(write_lines(make_long_answers()), encoding="utf-8")
