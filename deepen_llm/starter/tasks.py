"""Held-out questions on what the starter members learnt, and held-out text of the same kinds.

No phrasing, passage or pair of operands used here occurs in training; the facts themselves do.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from deepen_llm.starter.arithmetic import (
    HELD_OUT_QUESTIONS,
    OPERATIONS,
    is_held_out,
    operand_pairs,
    solve,
    write_steps,
)
from deepen_llm.starter.capitals import CAPITALS, HELD_OUT_CAPITAL_PROSE, HELD_OUT_CAPITAL_QUESTIONS, write_capital
from deepen_llm.starter.elements import (
    ELEMENT_PARTS,
    HELD_OUT_ELEMENT_PROSE,
    HELD_OUT_NUMBER_QUESTIONS,
    HELD_OUT_SYMBOL_QUESTIONS,
    write_element,
)
from deepen_llm.starter.passages import Cast, ask, make_statements, write_passage
from deepen_llm.starter.prompts import FORMATS, QUESTION_ANSWER, RETRIEVAL, Example, Format, write_plain

SEED = 20240415
NUM_ARITHMETIC = 150
NUM_READING = 150
STOP = ("\n",)


@dataclass(frozen=True)
class Question:
    """A prompt and the answers accepted; generation ends at a stop string or after so many tokens."""

    task: str
    prompt: str
    answer: str
    accepted: tuple[str, ...]
    max_new_tokens: int
    stop: tuple[str, ...] = STOP


def _write(example: Example, form: Format = QUESTION_ANSWER) -> str:
    """The prompt for the first question of an example."""
    return write_plain(example, form)[0].text


def _question(task: str, question: str, answer: str, max_new_tokens: int) -> Question:
    """A question without a context."""
    prompt = _write(Example(task, "", ((question, answer),)))
    return Question(task, prompt, answer, (answer,), max_new_tokens)


def _interleave(parts: Iterable[Sequence[Question]]) -> list[Question]:
    """The questions of all parts, shuffled within each and taken in turn.

    So any beginning of the list holds about as many of each part.
    """
    rng = random.Random(SEED)
    shuffled = [rng.sample(list(part), len(part)) for part in parts]
    longest = max(len(part) for part in shuffled)
    return [part[i] for i in range(longest) for part in shuffled if i < len(part)]


def _capitals() -> list[Question]:
    """One question for each country."""
    phrasings = HELD_OUT_CAPITAL_QUESTIONS
    return _interleave(
        [
            _question("capitals", phrasings[i % len(phrasings)].format(country), capital, 12)
            for i, (country, capital) in enumerate(part)
        ]
        for part in CAPITALS
    )


def _elements() -> list[Question]:
    """The symbol and the atomic number of each element."""
    parts = []
    for part in ELEMENT_PARTS:
        questions = []
        for i, element in enumerate(part):
            symbol = HELD_OUT_SYMBOL_QUESTIONS[i % len(HELD_OUT_SYMBOL_QUESTIONS)]
            number = HELD_OUT_NUMBER_QUESTIONS[i % len(HELD_OUT_NUMBER_QUESTIONS)]
            name = element.name
            questions.append(_question("elements", symbol.format(name), element.symbol, 8))
            questions.append(_question("elements", number.format(name), str(element.number), 8))
        parts.append(questions)
    return _interleave(parts)


def _arithmetic() -> list[Question]:
    """Sums, differences and products of held-out operands."""
    rng = random.Random(SEED)
    parts = []
    for operation in OPERATIONS:
        pairs = [pair for pair in operand_pairs(operation) if is_held_out(*pair)]
        phrasings = HELD_OUT_QUESTIONS[operation]
        parts.append(
            [
                _question(
                    "arithmetic",
                    phrasings[i % len(phrasings)].format(*pair),
                    str(solve(operation, *pair)),
                    64,
                )
                for i, pair in enumerate(rng.sample(pairs, NUM_ARITHMETIC // len(OPERATIONS)))
            ]
        )
    return _interleave(parts)


def _reading() -> list[Question]:
    """Questions on passages with held-out names, of one to five sentences."""
    rng = random.Random(SEED)
    forms = (QUESTION_ANSWER, *FORMATS[1:3], RETRIEVAL)
    questions = []
    for i in range(NUM_READING):
        statements = make_statements(Cast.draw(rng, held_out=True), 1 + i % 5)
        num_documents = 2 if i % 10 == 9 else 1
        context = write_passage(rng, statements, num_documents=num_documents)
        asked = rng.choice(statements)
        example = Example("reading", context, ((ask(rng, asked, held_out=True), asked.value),))
        prompt = _write(example, forms[i % len(forms)]).rstrip(" ")
        questions.append(Question("reading", prompt, asked.value, (asked.value,), 12))
    return questions


_LOADERS: dict[str, Callable[[], list[Question]]] = {
    "capitals": _capitals,
    "elements": _elements,
    "arithmetic": _arithmetic,
    "reading": _reading,
}


def load_task(name: str, limit: int | None = None) -> list[Question]:
    """The first `limit` questions of a task, always the same; all of them by default.

    Raises ValueError for a task that does not exist.
    """
    if name not in _LOADERS:
        raise ValueError(f"task must be one of {', '.join(_LOADERS)}; got {name!r}")
    return _LOADERS[name]()[:limit]


def heldout_documents(count: int = 20) -> tuple[str, ...]:
    """Held-out texts: `count` of each kind (prose, questions, arithmetic, reading)."""
    rng = random.Random(SEED + 1)
    documents = []
    for i in range(count):
        part = i % len(CAPITALS)
        capitals = rng.sample(CAPITALS[part], 2)
        elements = rng.sample(ELEMENT_PARTS[part], 2)
        prose = [write_capital(HELD_OUT_CAPITAL_PROSE, pair) for pair in capitals]
        prose += [write_element(HELD_OUT_ELEMENT_PROSE, element) for element in elements]
        documents.append(" ".join(prose))
        for name in ("capitals", "elements", "reading"):
            question = rng.choice(load_task(name))
            documents.append(f"{question.prompt} {question.answer}")
        operation = OPERATIONS[part]
        pair = rng.choice([pair for pair in operand_pairs(operation) if is_held_out(*pair)])
        asked = HELD_OUT_QUESTIONS[operation][i % 2].format(*pair)
        documents.append(f"Question: {asked}\nAnswer: {write_steps(operation, *pair)}")
    return tuple(documents)
