"""Which of a vocabulary's tokens may come, which count as one, and by which token a vocabulary begins a text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, final

from deepen_llm.vocabulary.vocabulary import Vocabulary

Text = bytes | str
"""What tokens are compared by: their bytes; a string for end-of-sequence, which is no text."""
END: Text = ""
"""Every vocabulary's end-of-sequence, where they are aligned."""


@final
@dataclass(frozen=True)
class TokenTexts:
    """What one vocabulary's tokens stand for, and which token stands for a text."""

    vocabulary: Vocabulary
    of_id: dict[int, Text]
    """The tokens that may come, and no others."""
    ids: dict[Text, int]

    @classmethod
    def read(cls, vocabulary: Vocabulary, *, align_eos: bool) -> Self:
        """A vocabulary's texts. Ends of sequence that are not aligned are told apart by the way they are written."""
        of_id: dict[int, Text] = {i: token for i, token in enumerate(vocabulary.tokens) if token}
        ids: dict[Text, int] = {token: token_id for token, token_id in vocabulary.ids_by_token.items() if token}
        for token_id in vocabulary.eos_ids:
            of_id[token_id] = END if align_eos else f"end: {vocabulary.pieces[token_id]}"
            ids.setdefault(of_id[token_id], token_id)
        return cls(vocabulary, of_id, ids)

    @property
    def canonical_ids(self) -> list[int]:
        """For each logit the token that it counts for, mostly itself; -1 where none may come."""
        return self.map_ids(self.ids)

    def map_ids(self, numbers: Mapping[Text, int]) -> list[int]:
        """For each logit what stands for the token's text, -1 where nothing does."""
        texts = (self.of_id.get(token_id) for token_id in range(len(self.vocabulary)))
        return [-1 if text is None else numbers.get(text, -1) for text in texts]

    def find_first(self, text: Text) -> int:
        """The token with this text, or the first of those by which the vocabulary spells it; -1 for none."""
        if text in self.ids:
            return self.ids[text]
        if isinstance(text, str) or not text:
            return -1
        if whole := complete(text):
            first = next(iter(self.vocabulary.encode(whole, at_start=False)), None)
        else:
            first = self.vocabulary.byte_ids[text[0]]
        # Neither an unknown token nor any other special one is a text.
        return self.ids[self.of_id[first]] if first in self.of_id else -1


def canonical_ids(vocabulary: Vocabulary, *, align_eos: bool, compares_strings: bool = False) -> list[int]:
    """For each logit the token that it counts for; -1 where none may come.

    Args:
        vocabulary: Whose tokens.
        align_eos: All ends of sequence count as the first.
        compares_strings: Every other token counts for itself, also where another has the same bytes.
    """
    texts = TokenTexts.read(vocabulary, align_eos=align_eos)
    if not compares_strings:
        return texts.canonical_ids
    ends = vocabulary.eos_ids[:1] if align_eos else ()
    return [
        -1 if token_id not in texts.of_id else ends[0] if ends and token_id in vocabulary.eos_ids else token_id
        for token_id in range(len(vocabulary))
    ]


def complete(text: bytes) -> str:
    """The text up to its first byte that is no part of a complete character."""
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        return text[: error.start].decode()
