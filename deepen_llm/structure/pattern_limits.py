"""How large a regular expression may be, by itself or within a JSON schema or a grammar."""

from __future__ import annotations

import re
from collections.abc import Iterable

from deepen_llm.errors import GrammarError

MAX_LITERAL = 20_000
"""Characters of one text, regular expression or pattern."""

MAX_REPEATS = 10_000
"""The greatest number in a counted repeat, as in `a{3,5}`."""

REPEAT = re.compile(r"(?<!\\)(?<!\\x)(?<!\\u)\{\s*([0-9]*)\s*,?\s*([0-9]*)\s*\}")
"""A counted repeat, and not the code of a character, as in `\\x{1F600}`."""


def check_pattern(pattern: str, name: str) -> None:
    """Refuse a regular expression that is too long or repeats too much.

    Raises:
        GrammarError: See above; the message begins with `name`.
    """
    if len(pattern) > MAX_LITERAL:
        raise GrammarError(f"{name} has at most {MAX_LITERAL:,} characters; got {len(pattern):,}: make it shorter")
    check_repeats(REPEAT.finditer(pattern), name)


def check_repeats(repeats: Iterable[re.Match[str]], name: str) -> None:
    """Refuse repeats, whose groups are their numbers, that are too many.

    Raises:
        GrammarError: See above; the message begins with `name`.
    """
    numbers = (number for found in repeats for number in found.groups("") if number)
    if too_great := next((number for number in numbers if len(number) > 9 or int(number) > MAX_REPEATS), None):
        raise GrammarError(
            f"{name} repeats a part at most {MAX_REPEATS:,} times; got {too_great[:20]}: repeat it without a limit, "
            "as by *"
        )
