"""One sequence's tokens in one member, kept equal to what that member's tokenizer makes of the whole text.

New text changes only the last few tokens before it. So only a window of recent text is tokenized again, from a place
where its tokens do not depend on what stands before:

1. from the last safe cut (`Vocabulary.last_safe_cut`), if it is near: exact;
2. else from the beginning of a recent token, and the result counts only if its first half repeats the tokens that are
   there. For BPE without pre-tokenization one repeated token is proof: a sequence of tokens is the encoding of its text
   if and only if every two neighbours are that of theirs. For Unigram, best paths that meet stay together; only where
   two segmentations have exactly the same score may the other one come out. Otherwise the window is widened, up to
   the whole text.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import takewhile
from typing import Self, final

from deepen_llm.vocabulary import EncodedText, Vocabulary
from deepen_llm.vocabulary.prefixes import TokenPrefixes
from deepen_llm.vocabulary.segmenter import UNCLEAR

NEAR = 256
"""A safe cut further back than this many characters is not worth it."""
WINDOW = 64
"""Characters of old text in the first window without a safe cut; each further window is four times as wide."""


@final
class Alignment:
    """The token ids of a prompt and all text appended to it, in one member's vocabulary. Not thread-safe."""

    def __init__(self, vocabulary: Vocabulary, prompt: EncodedText, *, num_spaces: int = 0) -> None:
        """Begin with a prompt.

        Args:
            vocabulary: The member's.
            prompt: In its tokens.
            num_spaces: Of the spaces before an answer in this vocabulary (`count_spaces_before`), how many are not in
                what the main model writes: they count as there already, in no token yet.
        """
        self._vocabulary = vocabulary
        self._at_start = prompt.at_start
        self._num_fixed = prompt.num_fixed
        self._num_open = 0
        self.missing = b" " * num_spaces
        """The bytes at the very end that no token spells yet: the vocabulary has none for them."""
        self._text = prompt.text + " " * prompt.opens_with_space
        self._starts = list(prompt.starts)
        self.ids: list[int] = list(prompt.ids)
        """The tokens of everything so far; the last of them may be the bytes of a character not complete yet."""

    def append(self, text: str, open_bytes: bytes = b"") -> int:
        """Add complete text, then the bytes of a character that is not complete yet (they replace earlier ones).

        Open bytes are single-byte tokens as far as the vocabulary has them, and otherwise wait for their character.

        Returns:
            How many leading ids are as they were: what a KV cache may keep.
        """
        first, tail = self._tokenize_again(text) if text else (len(self.ids) - self._num_open, [])
        opened = self._open_ids(open_bytes)
        self._num_open = len(opened)
        self.missing = open_bytes[len(opened) :]
        tail = tail + opened
        num_kept = first + _num_equal(self.ids[first:], tail)
        self.ids[first:] = tail
        return num_kept

    def copy(self) -> Self:
        """The same, which goes its own way."""
        copied = copy.copy(self)
        copied.ids, copied._starts = list(self.ids), list(self._starts)
        return copied

    @property
    def ends_unknown(self) -> bool:
        """Whether the last token is one for text that the vocabulary cannot express."""
        return len(self.ids) > self._num_fixed and self._vocabulary.tokens[self.ids[-1]] is None

    def open_tail(self, prefixes: TokenPrefixes) -> tuple[int, bytes]:
        """The last tokens that the tokenizer might yet have made one token with what follows.

        Returns:
            How many tokens, as many as possible, and their bytes followed by those missing.
        """
        tail, found = self.missing, (0, self.missing)
        for count in range(1, len(self.ids) - max(self._num_fixed, 1) + 1):
            token = self._vocabulary.tokens[self.ids[-count]]
            if token is None or len(tail := token + tail) > prefixes.longest:
                break
            if prefixes.has_longer(tail):
                found = count, tail
        return found

    def _tokenize_again(self, text: str) -> tuple[int, list[int]]:
        """Add text; the index of the first id that may change, and the ids from there on."""
        for first, start, is_exact in self._windows():
            at_start = start == 0 and self._at_start
            segmentation = self._vocabulary.segment(self._text[start:] + text, at_start=at_start)
            old = self.ids[self._num_fixed + first : len(self.ids) - self._num_open]
            num_checked = (len(old) + 1) // 2
            if is_exact or segmentation.ids[:num_checked] == old[:num_checked]:
                break
        self._starts[first:] = [start + at if at >= 0 else UNCLEAR for at in segmentation.starts]
        self._text += text
        return self._num_fixed + first, segmentation.ids

    def _windows(self) -> Iterator[tuple[int, int, bool]]:
        """Where to begin: a token's index among the text's, its first character, and whether that is exact."""
        end = len(self._text)
        recent = max(0, end - NEAR)
        cut = recent + self._vocabulary.last_safe_cut(self._text[recent:])
        if cut > recent:
            first = self._token_at(cut)
            if self._starts[first] == cut:
                yield first, cut, True
        size = WINDOW
        while size < end:
            first = self._token_at(end - size)
            if first > 0:
                yield first, self._starts[first], False
            size *= 4
        yield 0, 0, True

    def _token_at(self, character: int) -> int:
        """The index of the last token that clearly begins at this character or before it."""
        index = len(self._starts) - 1
        while index > 0 and not 0 <= self._starts[index] <= character:
            index -= 1
        return max(index, 0)

    def _open_ids(self, open_bytes: bytes) -> list[int]:
        """Single-byte tokens for the bytes, up to the first that the vocabulary has none for."""
        ids = (self._vocabulary.byte_ids[byte] for byte in open_bytes)
        return [token_id for token_id in takewhile(lambda token_id: token_id is not None, ids) if token_id is not None]


def _num_equal(left: list[int], right: list[int]) -> int:
    """How many leading entries are equal."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(left), len(right)))
