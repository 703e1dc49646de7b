"""Finished requests on disk, one line each, so that a run that is interrupted goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import Any, final

from deepen_llm.errors import CacheError

logger = logging.getLogger(__name__)


def make_key(identity: Mapping[str, Any], request: Mapping[str, Any]) -> str:
    """The same for the same request to the same models, fused the same way. Both must be JSON values."""
    text = json.dumps([identity, request], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@final
class RequestCache:
    """What was answered, by key. Every answer is a line of the file as soon as it is there.

    Without a file it only remembers. A last line that was cut short by an interruption is dropped.
    """

    def __init__(self, file: Path | None = None) -> None:
        """Read the file, where there is one; new answers go to its end.

        Raises:
            CacheError: A line that is not an answer, or a file that cannot be read or written.
        """
        self._file = file
        self._lock = Lock()
        self._answers: dict[str, dict[str, Any]] = {}
        if file is None:
            return
        try:
            whole = self._read(file) if file.exists() else 0
            with file.open("ab") as stream:
                stream.truncate(whole)
        except OSError as error:
            raise CacheError(f"finished requests are kept in {str(file)!r}, which cannot be used: {error}") from error

    def __len__(self) -> int:
        return len(self._answers)

    def __contains__(self, key: str) -> bool:
        return key in self._answers

    def get(self, key: str) -> dict[str, Any]:
        """The answer with this key. Raises KeyError where there is none."""
        return self._answers[key]

    def add(self, key: str, answer: dict[str, Any]) -> None:
        """Keep an answer, JSON values, under a key.

        Raises:
            CacheError: The file cannot be written.
        """
        with self._lock:
            self._answers[key] = answer
            if self._file is None:
                return
            try:
                with self._file.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps({"key": key, "answer": answer}) + "\n")
            except OSError as error:
                raise CacheError(f"finished requests cannot be kept: {error}: make room and run again") from error

    def _read(self, file: Path) -> int:
        """Take in every whole line; the number of their bytes."""
        whole = 0
        with file.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.endswith(b"\n"):
                    logger.info("%s: line %d was cut short, that request is run again", file, number)
                    break
                whole += len(line)
                self._take(line, f"{file}:{number}")
        return whole

    def _take(self, line: bytes, where: str) -> None:
        try:
            entry = json.loads(line)
            self._answers[entry["key"]] = dict(entry["answer"])
        except (ValueError, TypeError, KeyError) as error:
            raise CacheError(
                f"{where} is not a finished request, a JSON line with `key` and `answer`: delete the line, or the file "
                "to start anew"
            ) from error
