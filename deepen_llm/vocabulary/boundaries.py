"""Where a text may be cut so that its two sides, tokenized apart, give the tokens of the whole.

Such a place is before a single space between two visible characters. A tokenizer earns this rule by proof on itself:
no token runs over such a space, and a probe of every pair of character classes comes out the same cut and whole.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from deepen_llm.vocabulary.segmenter import Segmenter

# One or more of each class that pre-tokenizers tell apart: cased and caseless letters, marks, digits, punctuation,
# symbols, contractions, line ends inside a word's reach.
PROBES: tuple[str, ...] = (
    "a",
    "Z",
    "é",
    "ß",
    "ж",
    "字",
    "あ",
    "한",
    "ع",
    "ता",
    "é",
    "1",
    "42",
    "٣",
    "½",
    "_",
    "'s",
    "'",
    "it's",
    "/",
)
PROBES += ("!", "...", "(", "</a>", "#", "$", "€", "+=", "🙂", "👍🏽", "ABc", "aB", "“", "—", "。", "%d")


def last_cut(text: str) -> int:
    """The character where the last single space between two visible characters stands; 0 where there is none."""
    cut = text.rfind(" ", 1, -1) if len(text) > 2 else -1
    while cut > 0 and not (_is_visible(text[cut - 1], "LMNPS") and _is_visible(text[cut + 1], "LNPS")):
        cut = text.rfind(" ", 1, cut)
    return max(cut, 0)


def _is_visible(character: str, categories: str) -> bool:
    """Whether the character's general category is one of these: no space, no control or format character."""
    return unicodedata.category(character)[0] in categories


def has_space_cuts(segmenter: Segmenter, tokens: Iterable[bytes | None], added: Iterable[str]) -> bool:
    """Whether this tokenizer may be cut at `last_cut`: see the module's text. `added` are its added text tokens."""
    if any(_runs_over_space(token) for token in tokens if token is not None):
        return False
    pairs = [f"x{left} {right}x" for left in PROBES for right in PROBES]
    ends = [whole for token in added for whole in (f"{token} x", f"x {token}")]
    return all(_same_when_cut(segmenter, whole) for whole in (*pairs, *ends))


def _runs_over_space(token: bytes) -> bool:
    """Whether a visible character (or a part of one) stands before a space in the token."""
    return token.find(b" ", 1) > 0 and re.search(r"[^\s�] ", token.decode("utf-8", "replace")) is not None


def _same_when_cut(segmenter: Segmenter, whole: str) -> bool:
    cut = last_cut(whole)
    left, right = (segmenter.segment(part, False).ids for part in (whole[:cut], whole[cut:]))
    return left + right == segmenter.segment(whole, False).ids
