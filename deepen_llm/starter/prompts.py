"""The formats in which an example is written: plain prompts, and chat messages.

Every prompt ends without a trailing space and every answer begins with one, so that all three
tokenizers see the same first word. The two formats that do end with a space keep it, because
LlamaIndex's own templates do; the answer still brings a space of its own.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import NamedTuple

from deepen_llm.starter.example import Example


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
BARE = Format("{c}\n", "{q}\n")


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


def write_messages(example: Example) -> list[dict[str, str]]:
    """The example as chat messages; a context opens the first user message."""
    messages = []
    context = f"{example.context}\n\n" if example.context else ""
    for question, answer in example.turns:
        messages.append({"role": "user", "content": context + question})
        messages.append({"role": "assistant", "content": answer})
        context = ""
    return messages


def draw_format(rng: random.Random, example: Example) -> Format:
    """A format for this example; the retrieval one only where there is a context."""
    draw = rng.random()
    if example.context and draw < 0.15:
        return RETRIEVAL
    if draw < 0.25 and len(example.turns) == 1:
        return BARE
    if draw < 0.55:
        return QUESTION_ANSWER
    return rng.choice(FORMATS)
