"""Where a text may be cut so that its two sides, tokenized apart, give the tokens of the whole.

Such a place is before a single space between two visible characters. A tokenizer earns this rule by proof on itself:
no token runs over such a space, and a probe of every pair of character classes comes out the same cut and whole.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import final

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
)
PROBES += ("it's", "/", "!", "...", "(", "</a>", "#", "$", "€", "+=", "🙂", "👍🏽", "ABc", "aB", "“", "—", "。", "%d")


@final
class SafeCuts:
    """One tokenizer's safe cuts."""

    def __init__(self, segmenter: Segmenter, tokens: Iterable[bytes | None], added: Iterable[str]) -> None:
        """Try the tokenizer out. `added` are its added text tokens: they may swallow or add spaces around them."""
        self._segmenter = segmenter
        added = tuple(added)
        self._unsafe_ends = tuple(token for token in added if not self._holds(f"{token} x"))
        self._is_proven = (
            not any(_runs_over_space(token) for token in tokens if token is not None)
            and all(self._holds(f"x{left} {right}x") for left in PROBES for right in PROBES)
            and all(self._holds(f"x {token}") for token in added)
        )

    def last(self, text: str) -> int:
        """The character where the text's last safe cut is, whatever text may follow; 0 where there is none."""
        if not self._is_proven:
            return 0
        cut = last_cut(text)
        while cut and text.endswith(self._unsafe_ends, 0, cut):
            cut = last_cut(text[:cut])
        return cut

    def _holds(self, whole: str) -> bool:
        cut = last_cut(whole)
        left, right = (self._segmenter.segment(part, False).ids for part in (whole[:cut], whole[cut:]))
        return left + right == self._segmenter.segment(whole, False).ids


def last_cut(text: str) -> int:
    """The character where the last single space between two visible characters stands; 0 where there is none."""
    cut = text.rfind(" ", 1, -1)
    while cut > 0 and not (_is_visible(text[cut - 1], "LMNPS") and _is_visible(text[cut + 1], "LNPS")):
        cut = text.rfind(" ", 1, cut)
    return max(cut, 0)


def _is_visible(character: str, categories: str) -> bool:
    """Whether the character's general category is one of these: no space, no control or format character."""
    return unicodedata.category(character)[0] in categories


def _runs_over_space(token: bytes) -> bool:
    """Whether a visible character stands before a space in the token. Parts of characters do not count."""
    return token.find(b" ", 1) > 0 and re.search(r"[^\s\ufffd] ", token.decode("utf-8", "replace")) is not None
