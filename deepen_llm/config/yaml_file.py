"""YAML files of settings, which may come from strangers: read within limits of size, depth and aliases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import yaml

from deepen_llm.errors import ConfigError, quote

MAX_BYTES = 1_000_000
"""The largest file that is read: settings and templates take some thousand bytes."""
MAX_DEPTH = 64
"""How deep lists and mappings may lie in one another."""
MAX_VALUES = 100_000
"""How many values there may be, those that aliases repeat counted each time."""

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_mapping(path: str | Path, what: str) -> dict[Any, Any]:
    """What a YAML file holds, if that is a mapping.

    Args:
        path: The file.
        what: What errors call it, such as "an ensemble.yaml".

    Raises:
        ConfigError: No such file, one that cannot be read, is no valid YAML in UTF-8 or no mapping, that is too large
            or too deep, or names a key twice.
    """
    shown = quote(str(path))
    if not _is_file(Path(path)):
        raise ConfigError(f"there is no configuration file at {shown}: give the path of {what}")
    try:
        values = _load(_read_text(Path(path), what))
    except ConfigError as error:
        raise ConfigError(f"{shown} {error}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{shown} is not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{shown} must hold a mapping; got {type(values).__name__}: give the path of {what}")
    return values


def _is_file(path: Path) -> bool:
    """Whether there is such a file. What no path can be, such as 5,000 characters, is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _read_text(path: Path, what: str) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot be read ({error.strerror}): give the path of {what}") from error
    if len(data) > MAX_BYTES:
        raise ConfigError(f"must be a file of at most {MAX_BYTES:,} bytes; it is larger: give the path of {what}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"must be text in UTF-8; it is not ({error}): save it in UTF-8") from error


def _load(text: str) -> Any:
    """The values of a text that keeps to the limits; what is beyond them is refused before anything is made of it."""
    limits = _Limits()
    for event in _parse(text):
        limits.take(event)
    return yaml.load(text, Loader=LOADER)  # noqa: S506 (a safe loader, the faster one where there is one)


def _parse(text: str) -> Iterator[yaml.Event]:
    yield from yaml.parse(text, Loader=LOADER)


@dataclass(slots=True)
class _Open:
    """A list or mapping that has begun."""

    anchor: str | None
    is_mapping: bool
    num_values: int = 1
    num_children: int = 0
    keys: set[tuple[str, bool]] = field(default_factory=set)


@final
class _Limits:
    """Counts what the events of a YAML text would make, written out in full."""

    def __init__(self) -> None:
        self._open: list[_Open] = []
        self._sizes: dict[str, int] = {}

    def take(self, event: yaml.Event) -> None:
        """One event more.

        Raises:
            ConfigError: With it the text is beyond a limit, repeats a key, or holds a list or mapping within itself.
        """
        if isinstance(event, (yaml.SequenceStartEvent, yaml.MappingStartEvent)):
            self._begin(event)
        elif isinstance(event, (yaml.SequenceEndEvent, yaml.MappingEndEvent)):
            ended = self._open.pop()
            self._add(ended.num_values, ended.anchor)
        elif isinstance(event, yaml.ScalarEvent):
            self._check_key(event)
            self._add(1, event.anchor)
        elif isinstance(event, yaml.AliasEvent):
            self._add(self._size(event), None)

    def _begin(self, event: Any) -> None:
        if len(self._open) >= MAX_DEPTH:
            raise ConfigError(f"must be at most {MAX_DEPTH} levels deep; it is deeper in {_place(event)}")
        self._open.append(_Open(event.anchor, isinstance(event, yaml.MappingStartEvent)))

    def _add(self, num_values: int, anchor: str | None) -> None:
        if anchor is not None:
            self._sizes[anchor] = num_values
        if self._open:
            self._open[-1].num_children += 1
            self._open[-1].num_values += num_values
            if self._open[-1].num_values > MAX_VALUES:
                raise ConfigError(f"must hold at most {MAX_VALUES:,} values, those of aliases counted; it holds more")

    def _size(self, event: Any) -> int:
        if any(one.anchor == event.anchor for one in self._open):
            raise ConfigError(f"holds {quote(event.anchor)} within itself, in {_place(event)}: write it without alias")
        return self._sizes.get(event.anchor, 1)

    def _check_key(self, event: yaml.ScalarEvent) -> None:
        if not self._open or not self._open[-1].is_mapping or self._open[-1].num_children % 2:
            return
        key = (event.value, event.implicit[0])
        if key in self._open[-1].keys and event.value != "<<":
            raise ConfigError(f"names the key {quote(event.value)} twice, again in {_place(event)}: leave one out")
        self._open[-1].keys.add(key)


def _place(event: Any) -> str:
    return f"line {event.start_mark.line + 1}"
