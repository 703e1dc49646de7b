"""Whether a generated answer is right: exact match of short answers, the last number, an option's letter."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Iterable
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
