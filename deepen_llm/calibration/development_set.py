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

from deepen_llm.errors import ConfigError

MIN_ROWS = 30
"""With fewer, the interval of a mean is so wide that the best of several weights is mostly the luckiest."""
PIECE_CHARACTERS = 240
_SPACES = re.compile(r"\s+")


@final
@dataclass(frozen=True, slots=True)
class DevelopmentRow:
    """A prompt, and the text whose log-probability counts: both as they are joined."""

    prompt: str
    answer: str


@final
@dataclass(frozen=True)
class DevelopmentSet:
    """Rows of one file. `is_text`: pieces of running text, in which every byte counts alike, not every row."""

    name: str
    rows: tuple[DevelopmentRow, ...]
    is_text: bool = False

    @classmethod
    def load(cls, path: Path, *, delimiter: str = " ") -> Self:
        """Read a file: JSON lines of `{"prompt": ..., "answer": ...}` where it is named so, else running text.

        Args:
            path: A `.jsonl`, `.ndjson` or `.json` file (an object a line), or a text file; UTF-8.
            delimiter: Put between prompt and answer where there is no space on either side.

        Raises:
            ConfigError: A file that is not there, is not UTF-8 or holds nothing, or a line that is not such a row.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"a development set must be a file of JSON lines or of text in UTF-8; {str(path)!r} is none: {error}"
            ) from error
        is_text = path.suffix.lower() not in (".jsonl", ".ndjson", ".json")
        rows = _cut(text) if is_text else _read_lines(text, path, delimiter)
        return cls(path.name, tuple(rows), is_text)._checked()

    @classmethod
    def of_pairs(cls, name: str, pairs: Iterable[tuple[str, str]]) -> Self:
        """Prompts with their answers, joined as they are.

        Raises:
            ConfigError: No pairs, or an empty answer.
        """
        return cls(name, tuple(DevelopmentRow(prompt, answer) for prompt, answer in pairs))._checked()

    @property
    def unit(self) -> str:
        """What a score is, in words. More is better."""
        return "log2 probability of a byte" if self.is_text else "natural log probability of an answer"

    def score(self, logprob: float) -> float:
        """What a row's log-probability (natural) counts: of text, the mean over rows is that over bytes."""
        return logprob / math.log(2) / self._mean_bytes if self.is_text else logprob

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


def _read_lines(text: str, path: Path, delimiter: str) -> Iterator[DevelopmentRow]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield _read_row(line, f"{path}:{number}", delimiter)


def _read_row(line: str, where: str, delimiter: str) -> DevelopmentRow:
    """One row; anything but a prompt and an answer beside them is left alone."""
    try:
        fields: Any = json.loads(line)
    except ValueError as error:
        raise ConfigError(f"{where} must be a JSON object; it is not JSON: {error}") from error
    wanted = [fields.get(name) if isinstance(fields, dict) else None for name in ("prompt", "answer")]
    prompt, answer = wanted
    if not isinstance(prompt, str) or not isinstance(answer, str) or not answer.strip():
        raise ConfigError(
            f'{where} must be {{"prompt": "...", "answer": "..."}}, two texts, the answer not empty; got {line[:80]!r}'
        )
    is_apart = not prompt or prompt[-1].isspace() or answer[0].isspace()
    return DevelopmentRow(prompt, answer if is_apart else delimiter + answer)


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
