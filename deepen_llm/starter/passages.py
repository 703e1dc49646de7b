"""Passages about invented people and places, and questions that only reading them answers."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass

from deepen_llm.starter.names import (
    HELD_OUT_PEOPLE,
    HELD_OUT_PLACES,
    PEOPLE,
    PLACES,
    draw_names,
)
from deepen_llm.starter.relations import BUILDINGS, RELATIONS, THINGS, VALUES, Relation

OPENERS = ("This is a short story.", "Here is what we know.", "Here is a note.")


@dataclass(frozen=True)
class Statement:
    """One sentence of a passage with what it says."""

    relation: Relation
    subject: str
    value: str
    text: str


@dataclass
class Cast:
    """The invented names of one passage, each handed out in turn."""

    rng: random.Random
    people: list[str]
    places: list[str]

    @classmethod
    def draw(cls, rng: random.Random, *, held_out: bool) -> Cast:
        """A cast from the training names, or from those kept for evaluation."""
        people = draw_names(rng, HELD_OUT_PEOPLE if held_out else PEOPLE, 12)
        places = draw_names(rng, HELD_OUT_PLACES if held_out else PLACES, 8)
        return cls(rng, people, places)

    def subject(self, kind: str) -> str:
        """A subject of this kind; people come back, so that one person has several facts."""
        if kind == "person":
            return self.rng.choice(self.people[:4])
        if kind == "place":
            return self.rng.choice(self.places[:3])
        if kind == "thing":
            return f"{self.rng.choice(THINGS)} of {self.rng.choice(self.people[:4])}"
        return f"{self.rng.choice(BUILDINGS)} of {self.rng.choice(self.places[:3])}"

    def value(self, kind: str) -> str:
        """A value of this kind; a person or a place that is no subject."""
        if kind == "person":
            return self.people.pop()
        if kind == "place":
            return self.places.pop()
        return self.rng.choice(VALUES[kind])


def make_statements(cast: Cast, count: int) -> list[Statement]:
    """`count` statements, no two with the same relation and subject."""
    statements: dict[tuple[str, ...], Statement] = {}
    rng = cast.rng
    favourites = rng.sample(RELATIONS, rng.randint(1, len(RELATIONS)))
    names_left = min(len(cast.people) - 4, len(cast.places) - 3)
    while len(statements) < min(count, names_left):
        relation = rng.choice(favourites)
        subject = cast.subject(relation.subject)
        key = (relation.questions[0], subject)
        if key in statements:
            favourites.append(rng.choice(RELATIONS))
            continue
        value = cast.value(relation.value)
        text = rng.choice(relation.sentences).format(n=subject, v=value)
        statements[key] = Statement(relation, subject, value, text)
    return list(statements.values())


def ask(rng: random.Random, statement: Statement, *, held_out: bool = False) -> str:
    """A question that the statement answers."""
    questions = statement.relation.held_out if held_out else statement.relation.questions
    return rng.choice(questions).format(n=statement.subject)


def write_passage(rng: random.Random, statements: list[Statement], *, num_documents: int) -> str:
    """The sentences in order, as one document or as several with an empty line between."""
    texts = [statement.text for statement in statements]
    if num_documents == 1:
        opener = [rng.choice(OPENERS)] if rng.random() < 0.2 else []
        return " ".join(opener + texts)
    cuts = sorted(rng.sample(range(1, len(texts)), min(num_documents, len(texts)) - 1))
    edges = [0, *cuts, len(texts)]
    documents = [" ".join(texts[a:b]) for a, b in itertools.pairwise(edges)]
    return "\n\n".join(documents)
