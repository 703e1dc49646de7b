"""The exceptions of deepen_llm. Each is also the standard type that matches, so both `except` clauses work.

DeepenError
├── ConfigError (ValueError)              a setting or an argument that cannot be used
│   └── GrammarError                      a schema, regular expression or grammar that cannot be followed
├── PromptError (ValueError)              a prompt or a message list that cannot be run
│   └── ContextLengthError                a prompt that does not fit into a member's context
├── VocabularyError (ValueError)          a tokenizer that cannot be read as bytes, members with too few common tokens
├── MemberError (RuntimeError)            a member that cannot be loaded or that failed while running
│   └── MemberTimeoutError (TimeoutError) a member that did not answer in time
├── NumericalError (ArithmeticError)      NaN or infinity where a number was needed
├── EngineError (RuntimeError)            a step that failed for a reason of the library's own
├── CacheError (OSError)                  a cache file that cannot be read or written
├── ClosedError (RuntimeError)            use after close
└── MissingDependencyError (ImportError)  an optional package that is not installed

Every message says what must hold, what came and what to do, at a readable length: `DeepenError` sees to it.
"""

from __future__ import annotations

import itertools
import reprlib
from typing import Any, final

MAX_MESSAGE = 2000
"""The longest message, in characters: of a longer one the beginning and the end are kept."""
MAX_END = 500
"""How much of a longer message's end is kept."""
MAX_DIGITS = 100
"""The longest integer that is written out."""


class DeepenError(Exception):
    """Root of every error that this library raises on purpose. Its message is cut where it is too long to be read."""

    def __init__(self, *args: object) -> None:
        super().__init__(*(shorten(part) if isinstance(part, str) else part for part in args))


class ConfigError(DeepenError, ValueError):
    """A setting or an argument that cannot be used.

    `problems` are those of one construction of a settings class, each with the setting's name (empty for the class as a
    whole) and what is wrong with it, for those who call settings by other names.
    """

    problems: tuple[tuple[str, str], ...] = ()


class GrammarError(ConfigError):
    """A JSON schema, regular expression or grammar that decoding cannot follow; the message names the part."""


class PromptError(DeepenError, ValueError):
    """A prompt or a message list that cannot be run."""


class ContextLengthError(PromptError):
    """A prompt that does not fit into a member's context."""


class VocabularyError(DeepenError, ValueError):
    """A tokenizer that cannot be read as bytes, or members whose vocabularies share too little."""


class MemberError(DeepenError, RuntimeError):
    """A member that cannot be loaded, or that failed while running."""


class MemberTimeoutError(MemberError, TimeoutError):
    """A member that did not answer in time."""


class NumericalError(DeepenError, ArithmeticError):
    """NaN or infinity where a number was needed."""


class EngineError(DeepenError, RuntimeError):
    """A step that failed for a reason of the library's own, which is its cause: a fault to report."""


class CacheError(DeepenError, OSError):
    """A cache file that cannot be read or written."""


class ClosedError(DeepenError, RuntimeError):
    """An ensemble was used after `close()`."""


class MissingDependencyError(DeepenError, ImportError):
    """An optional package that is not installed."""


def shorten(text: str) -> str:
    """The text, or the beginning and the end of one longer than `MAX_MESSAGE`; short already, it stays as it is."""
    if len(text) <= MAX_MESSAGE:
        return text
    gap = f" ... ({len(text):,} characters) ... "
    return text[: MAX_MESSAGE - MAX_END - len(gap)] + gap + text[-MAX_END:]


def quote(value: object) -> str:
    """A value as messages show it: as `repr` writes it, with what is long or deep left out before it is written."""
    return _QUOTER.repr(value)


@final
class _Quoter(reprlib.Repr):
    """`repr` within bounds. A structure of a few bytes may be one of gigabytes when written out."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxtuple = self.maxlist = self.maxset = self.maxfrozenset = self.maxdeque = self.maxdict = 10
        self.maxstring = self.maxother = 200

    def repr_int(self, value: int, level: int) -> str:
        """Python refuses to write integers of more than some thousand digits."""
        del level
        return repr(value) if abs(value) < 10**MAX_DIGITS else f"<an integer of {value.bit_length()} bits>"

    def repr_dict(self, value: dict[Any, Any], level: int) -> str:
        """In the order of the mapping, which people know it by."""
        if level <= 0 and value:
            return "{...}"
        first = itertools.islice(value.items(), self.maxdict)
        shown = [f"{self.repr1(key, level - 1)}: {self.repr1(item, level - 1)}" for key, item in first]
        return "{" + ", ".join([*shown, "..."] if len(value) > self.maxdict else shown) + "}"


_QUOTER = _Quoter()
