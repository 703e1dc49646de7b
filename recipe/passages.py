"""Passages with questions, lists to look something up in, and words to repeat, for training."""

from __future__ import annotations

import random

from deepen_llm.starter.capitals import CAPITALS
from deepen_llm.starter.names import PEOPLE, PLACES, draw_names
from deepen_llm.starter.passages import Cast, ask, make_statements, write_passage
from deepen_llm.starter.prompts import Example
from deepen_llm.starter.relations import VALUES


def make_reading(rng: random.Random, *, max_sentences: int = 5, max_questions: int = 6) -> Example:
    """A training passage with several questions and answers."""
    cast = Cast.draw(rng, held_out=False)
    statements = make_statements(cast, rng.randint(1, max_sentences))
    num_documents = rng.randint(2, 3) if len(statements) > 3 and rng.random() < 0.3 else 1
    context = write_passage(rng, statements, num_documents=num_documents)
    asked = rng.sample(statements, min(len(statements), max_questions))
    return Example("reading", context, tuple((ask(rng, s), s.value) for s in asked))


def make_lookup(rng: random.Random) -> Example:
    """A list of pairs, and questions about what stands after a name.

    A third of the values are names of real capitals, of every part: so every member learns to spell
    all of them, and learns nothing of where they lie.
    """
    keys = draw_names(rng, PEOPLE, rng.randint(1, 5))
    places = draw_names(rng, PLACES, len(keys))
    words = [rng.choice(rng.choice(list(VALUES.values()))) for _ in keys]
    capitals = [rng.choice(rng.choice(CAPITALS))[1] for _ in keys]
    values = [rng.choice(kinds) for kinds in zip(words, places, capitals, strict=True)]
    context = ", ".join(f"{key} {value}" for key, value in zip(keys, values, strict=True)) + "."
    turns = [(f"What stands after {key}?", value) for key, value in zip(keys, values, strict=True)]
    rng.shuffle(turns)
    return Example("reading", f"Here is a list. {context}", tuple(turns))


def make_copy(rng: random.Random) -> Example:
    """An instruction to repeat invented names and other words."""
    items = draw_names(rng, PEOPLE, rng.randint(1, 4)) + draw_names(rng, PLACES, rng.randint(1, 4))
    items += [rng.choice(words) for words in VALUES.values() if rng.random() < 0.6]
    rng.shuffle(items)
    listed = " ".join(items)
    return Example("copy", "", ((f"Please repeat: {listed}.", listed),))
