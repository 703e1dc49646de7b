"""Which answer counts, and whether it is right: short answers, the last number, an option by its letter or its text."""

from __future__ import annotations

import math
import re
import string
import unicodedata
from collections.abc import Iterable, Sequence
from decimal import Decimal

LETTERS = string.ascii_uppercase
_ARTICLE = re.compile(r"\b(a|an|the)\b")
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?|-?\.\d+")
# "A" and "I" before a small letter are words.
_LETTER = re.compile(r"(?<![A-Za-z'])([B-HJ-Z]|[AI](?!\s+[a-z]))(?![A-Za-z'])")


def normalize_answer(text: str) -> str:
    """A short answer without case, accents' encoding, punctuation, articles and further spaces."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    kept = "".join(" " if unicodedata.category(character)[0] == "P" else character for character in folded)
    return " ".join(_ARTICLE.sub(" ", kept).split())


def first_line(text: str) -> str:
    """The first line that is not empty; of a text without any, nothing."""
    return next((line for line in text.splitlines() if line.strip()), "")


def is_among(text: str, accepted: Iterable[str]) -> bool:
    """Whether the first line that is not empty is one of the accepted answers, both normalized."""
    given = normalize_answer(first_line(text))
    return bool(given) and given in {normalize_answer(answer) for answer in accepted}


def last_number(text: str) -> Decimal | None:
    """The last number of a text, without the commas between thousands; None where there is none."""
    found = _NUMBER.findall(text)
    return Decimal(found[-1].replace(",", "")) if found else None


def is_number(text: str, gold: str) -> bool:
    """Whether the last number of a worked answer is the right one."""
    given = last_number(text)
    return given is not None and given == last_number(gold)


def first_letter(text: str, num_options: int) -> int | None:
    """The option that an answer in words names first, by its letter standing alone; None where it names none."""
    named = (LETTERS.index(letter) for letter in _LETTER.findall(text))
    return next((option for option in named if option < num_options), None)


def best_option(logprobs: Sequence[float], texts: Sequence[str] | None = None) -> int | None:
    """The option with the highest log-probability, of equals the first; None where none can be chosen.

    With the options' `texts`, the one with the highest log-probability per byte of its text in UTF-8, which a long
    option can be as well as a short one (lm-eval's `acc_bytes`; `acc_norm` counts characters). An option without text
    has nothing to be probable by, and is never chosen.
    """
    sizes = [1] * len(logprobs) if texts is None else [len(text.encode()) for text in texts]
    goodness = [logprob / size if size else -math.inf for logprob, size in zip(logprobs, sizes, strict=True)]
    best = max(goodness, default=-math.inf)
    return goodness.index(best) if best > -math.inf else None
