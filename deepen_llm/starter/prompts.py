"""The formats in which an example is written as a plain prompt.

Every prompt ends without a trailing space and every answer begins with one, so that all three
tokenizers see the same first word. The two formats that do end with a space keep it, because
LlamaIndex's own templates do; the answer still brings a space of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(frozen=True)
class Example:
    """Questions with their answers, asked after a context that may be empty.

    `kind` names the kind of text ("capitals", "elements", "arithmetic", "reading", "chat",
    "copy", "prose"). For "prose" there are no questions and the context is the text itself.
    """

    kind: str
    context: str = ""
    turns: tuple[tuple[str, str], ...] = field(default=())


class Format(NamedTuple):
    """A plain format: how a context, each further question, and an answer are written."""

    context: str
    question: str


QUESTION_ANSWER = Format("Context:\n{c}\n\n", "Question: {q}\nAnswer:")
FORMATS = (
    QUESTION_ANSWER,
    Format("Context: {c}\n\n", "Question: {q}\nAnswer:"),
    Format("{c}\n\n", "Question: {q}\nAnswer:"),
    Format("{c}\n", "Q: {q}\nA:"),
    Format("Use the context to answer the question.\n\nContext:\n{c}\n\n", "Question: {q}\nAnswer:"),
    Format("Answer the question using only the following context:\n{c}\n\n", "Question: {q}\n\nAnswer:"),
    Format("Human: Read this.\n{c}\n", "Human: {q}\nAI:"),
    Format("{c}\n\n", "user: {q}\nassistant:"),
    Format("{c}\n\n", "User: {q}\nAssistant:"),
)
RETRIEVAL = Format(
    "Context information is below.\n---------------------\n{c}\n---------------------\n"
    "Given the context information and not prior knowledge, answer the query.\n",
    "Query: {q}\nAnswer: ",
)


@dataclass(frozen=True)
class Segment:
    """A stretch of text, and whether it is something the model is to say."""

    text: str
    is_answer: bool


def write_plain(example: Example, form: Format) -> list[Segment]:
    """The example in a plain format, without end-of-text tokens."""
    context = form.context.format(c=example.context) if example.context else ""
    segments = []
    for question, answer in example.turns:
        segments.append(Segment(context + form.question.format(q=question), is_answer=False))
        segments.append(Segment(f" {answer}\n", is_answer=True))
        context = ""
    return segments
