"""Documents with invented facts, and questions that only the right one of them answers. The same for the same seed.

Names and phrasings are those kept from the starter models' training: what an answer says comes from a document.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from deepen_llm.errors import ConfigError
from deepen_llm.evaluation.grading import first_line, normalize_answer
from deepen_llm.starter.names import HELD_OUT_PEOPLE, HELD_OUT_PLACES
from deepen_llm.starter.relations import BUILDINGS, RELATIONS, THINGS, VALUES, Relation

SEED = 20240415
FACTS_EACH = 3
NOTES_EACH = {"person": 2, "place": 1}
"""Documents about one name. Of a person's two, only the words of a fact tell which one is asked for."""
MAX_DOCUMENTS = NOTES_EACH["person"] * len(HELD_OUT_PEOPLE) + NOTES_EACH["place"] * len(HELD_OUT_PLACES)
_OWNED = {"thing": THINGS, "building": BUILDINGS}
_KINDS_ABOUT = {"person": ("person", "thing"), "place": ("place", "building")}


@dataclass(frozen=True, slots=True)
class Document:
    """A few sentences about one invented person or place."""

    name: str
    """Whom it is about, with a number; no two documents have the same."""
    text: str


@dataclass(frozen=True, slots=True)
class RetrievalQuestion:
    """A question that one document answers."""

    text: str
    answer: str
    source: str
    """The name of that document."""
    rivals: tuple[str, ...]
    """Values of the same kind, none of which answers the question."""

    def is_answered_by(self, text: str) -> bool:
        """Whether the first line that is not empty names the answer and none of its rivals, in whatever words."""
        said = first_line(text)
        return _names(said, self.answer) and not any(_names(said, rival) for rival in self.rivals)


def make_documents(
    num_documents: int = 100, num_questions: int = 200, seed: int = SEED
) -> tuple[list[Document], list[RetrievalQuestion]]:
    """Documents in a random order, and questions spread evenly over them, each document asked in turn.

    Raises:
        ConfigError: More documents than there are names, or more questions than facts.
    """
    if not 1 <= num_documents <= MAX_DOCUMENTS:
        raise ConfigError(f"1 to {MAX_DOCUMENTS} documents can be made; got {num_documents}: take another number")
    most = FACTS_EACH * num_documents
    if not 1 <= num_questions <= most:
        raise ConfigError(
            f"{num_documents} documents answer 1 to {most} questions; got {num_questions}: ask fewer, or take more "
            "documents"
        )
    rng = random.Random(seed)  # noqa: S311  (nothing secret: it must repeat itself)
    written = [note for name, kind in _shuffled_names(rng) for note in _write_notes(rng, name, kind)][:num_documents]
    rng.shuffle(written)
    in_turn = [questions[position] for position in range(FACTS_EACH) for _, questions in written]
    return [document for document, _ in written], in_turn[:num_questions]


def _shuffled_names(rng: random.Random) -> list[tuple[str, str]]:
    """All names with their kinds."""
    names = [(name, "person") for name in HELD_OUT_PEOPLE] + [(name, "place") for name in HELD_OUT_PLACES]
    return rng.sample(names, len(names))


def _write_notes(rng: random.Random, name: str, kind: str) -> Iterator[tuple[Document, list[RetrievalQuestion]]]:
    """The documents about one name, each with a question per fact; no two facts are of one relation."""
    about = [relation for relation in RELATIONS if relation.subject in _KINDS_ABOUT[kind]]
    stated = rng.sample(about, FACTS_EACH * NOTES_EACH[kind])
    for number in range(NOTES_EACH[kind]):
        source = f"{name}-{number + 1}"
        relations = stated[number * FACTS_EACH : (number + 1) * FACTS_EACH]
        facts = [_state_fact(rng, relation, name, source) for relation in relations]
        text = " ".join(sentence for sentence, _ in facts)
        yield Document(source, text), [question for _, question in facts]


def _state_fact(rng: random.Random, relation: Relation, name: str, source: str) -> tuple[str, RetrievalQuestion]:
    """A sentence, and the question that it answers."""
    owned = _OWNED.get(relation.subject)
    subject = f"{rng.choice(owned)} of {name}" if owned else name
    values = [value for value in _list_values(relation) if value != name]
    answer = rng.choice(values)
    rivals = tuple(value for value in values if value != answer)
    question = rng.choice(relation.held_out).format(n=subject)
    sentence = rng.choice(relation.sentences).format(n=subject, v=answer)
    return sentence, RetrievalQuestion(question, answer, source, rivals)


def _list_values(relation: Relation) -> Sequence[str]:
    names = {"person": HELD_OUT_PEOPLE, "place": HELD_OUT_PLACES}
    return names[relation.value] if relation.value in names else VALUES[relation.value]


def _names(text: str, value: str) -> bool:
    """Whether a value stands in a text as whole words, in capitals or not."""
    return re.search(rf"\b{re.escape(normalize_answer(value))}\b", normalize_answer(text)) is not None
