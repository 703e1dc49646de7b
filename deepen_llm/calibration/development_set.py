"""A development set: what weights are chosen on. Never the text or the questions that are reported on."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self, final

from deepen_llm.errors import ConfigError, PromptError
from deepen_llm.text_file import read_text
from deepen_llm.vocabulary.chat import Message, check_messages

MIN_ROWS = 30
"""With fewer, the interval of a mean is so wide that the best of several weights is mostly the luckiest."""
PIECE_CHARACTERS = 240
SHORT_WORDS = 10
"""An answer of one line and no more words is right or wrong; a longer one is only more or less probable."""
_SPACES = re.compile(r"\s+")

Prompt = str | tuple[Message, ...]
"""A text, or the messages of a chat."""


@final
@dataclass(frozen=True, slots=True)
class DevelopmentRow:
    """What is asked, and the text whose log-probability counts, as it follows."""

    prompt: Prompt
    answer: str


@final
@dataclass(frozen=True)
class DevelopmentSet:
    """Rows of one file, or pieces of a running text. Every byte of the answers counts alike."""

    name: str
    rows: tuple[DevelopmentRow, ...]

    @classmethod
    def load(cls, path: Path, *, delimiter: str | None = None, in_chat: bool = False) -> Self:
        """Read a file: JSON lines of `{"prompt": ..., "answer": ...}` where it is named so, else running text.

        Args:
            path: A `.jsonl`, `.ndjson` or `.json` file (an object a line), or a text file; UTF-8.
            delimiter: Put between prompt and answer where there is no space on either side; None puts a space, and
                nothing in a chat.
            in_chat: A prompt is a user's message. Rows may be `{"messages": [...], "answer": ...}`.

        Raises:
            ConfigError: A file that is not there, is not UTF-8 or holds nothing, or a line that is not such a row.
        """
        text = read_text(path, "a development set, a file of JSON lines or of text,")
        if path.suffix.lower() in (".jsonl", ".ndjson", ".json"):
            rows = _read_lines(text, path, in_chat)
            joined = (_join(row, delimiter if delimiter is not None else "" if in_chat else " ") for row in rows)
            return cls(path.name, tuple(joined))._checked()
        if in_chat:
            raise ConfigError(
                f"a chat has questions with answers, in a .jsonl file; {str(path)!r} is running text: leave it out"
            )
        return cls(path.name, tuple(_cut(text)))._checked()

    @classmethod
    def of_pairs(cls, name: str, pairs: Iterable[tuple[str, str]]) -> Self:
        """Prompts with their answers, joined as they are.

        Raises:
            ConfigError: No pairs, or an empty answer.
        """
        return cls(name, tuple(DevelopmentRow(prompt, answer) for prompt, answer in pairs))._checked()

    def in_chat(self) -> Self:
        """Every prompt as a user's message, and the answers without the spaces around them."""
        rows = (
            DevelopmentRow(_ask(row.prompt.strip()), row.answer.strip()) if isinstance(row.prompt, str) else row
            for row in self.rows
        )
        return type(self)(self.name, tuple(rows))

    def score(self, logprob: float) -> float:
        """What a log-probability (natural) counts: the mean over rows is minus the bits per byte of the answers."""
        return logprob / math.log(2) / self._mean_bytes

    @property
    def has_short_answers(self) -> bool:
        """Whether every answer is short enough to be right or wrong."""
        answers = [row.answer.strip() for row in self.rows]
        return all(len(answer.split()) <= SHORT_WORDS and "\n" not in answer for answer in answers)

    def why_too_little(self) -> str | None:
        """Why nothing can be chosen on these rows, or None where it can."""
        if len(self.rows) < MIN_ROWS:
            return f"{self.name} has {len(self.rows)} of them"
        if len({" ".join(row.answer.split()).casefold() for row in self.rows}) == 1:
            return f"in {self.name} every answer is {self.rows[0].answer.strip()!r}"
        return None

    @cached_property
    def _mean_bytes(self) -> float:
        return sum(len(row.answer.encode()) for row in self.rows) / len(self.rows)

    def _checked(self) -> Self:
        if not self.rows:
            raise ConfigError(f"a development set must hold at least one row; {self.name} holds none: add some")
        if any(not row.answer for row in self.rows):
            raise ConfigError(f"every row of a development set must have an answer; one of {self.name} is empty")
        return self


def _ask(question: str) -> tuple[Message, ...]:
    return ({"role": "user", "content": question},)


def _join(row: DevelopmentRow, delimiter: str) -> DevelopmentRow:
    """The row with its answer as it follows the prompt."""
    prompt, answer = row.prompt, row.answer
    is_apart = answer[0].isspace() or (isinstance(prompt, str) and (not prompt or prompt[-1].isspace()))
    return row if is_apart else DevelopmentRow(prompt, delimiter + answer)


def _read_lines(text: str, path: Path, in_chat: bool) -> Iterator[DevelopmentRow]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield _read_row(line, f"{path}:{number}", in_chat)


def _read_row(line: str, where: str, in_chat: bool) -> DevelopmentRow:
    """One row; anything beside what is asked for is left alone."""
    try:
        fields: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where} must be a JSON object; it is not JSON: {error}") from error
    fields = fields if isinstance(fields, dict) else {}
    prompt, messages, answer = (fields.get(name) for name in ("prompt", "messages", "answer"))
    if isinstance(answer, str) and answer.strip():
        if isinstance(prompt, str):
            return DevelopmentRow(_ask(prompt) if in_chat else prompt, answer)
        if isinstance(messages, list) and in_chat:
            try:
                check_messages(messages)
            except PromptError as error:
                raise ConfigError(f"{where}: {error}") from error
            return DevelopmentRow(tuple(messages), answer)
    if isinstance(messages, list) and not in_chat:
        raise ConfigError(f"{where} has the messages of a chat: ask in the chat templates (`deepen calibrate --chat`)")
    also = ', or "messages": [...] in place of the prompt' if in_chat else ""
    raise ConfigError(
        f'{where} must be {{"prompt": "...", "answer": "..."}}, two texts, the answer not empty{also}; '
        f"got {line[:80]!r}"
    )


def _cut(text: str) -> Iterator[DevelopmentRow]:
    """Pieces of a text, each read after the one before; the first word is read and not scored."""
    text = text.strip()
    first = _SPACES.search(text)
    if first is None:
        return
    before, at = text[: first.start()], first.start()
    while at < len(text):
        end = next((m.start() for m in _SPACES.finditer(text, at + PIECE_CHARACTERS)), len(text))
        piece = text[at:end]
        if piece.strip():
            yield DevelopmentRow(before, piece)
        before, at = piece, end
