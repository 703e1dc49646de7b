"""The tokens that several vocabularies share: compared as bytes, or as the tokenizers write them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deepen_llm.vocabulary.vocabulary import Vocabulary


def common_tokens(vocabularies: Sequence[Vocabulary]) -> list[tuple[int, ...]]:
    """For every byte string that all the vocabularies hold as a token: its id in each, in the order of the first.

    Special and padded ids do not count; added tokens that are not special do, as their text, and so do the single-byte
    tokens of byte fallback. Where a vocabulary holds a byte string twice, its id is the one that its tokenizer makes
    of text (`Vocabulary.ids_by_token`).
    """
    if not vocabularies:
        return []
    first, *others = [vocabulary.ids_by_token for vocabulary in vocabularies]
    shared = [token for token in first if all(token in other for other in others)]
    return sorted((first[token], *(other[token] for other in others)) for token in shared)


def common_strings(vocabularies: Sequence[Vocabulary]) -> list[tuple[int, ...]]:
    """For every string that all the vocabularies hold as an entry: its id in each, in the order of the first.

    Compared as the vocabularies write them, special and byte tokens included: what the published code takes for anchors
    (arXiv 2404.12715, section 3). `Ġthe` and `▁the` differ.
    """
    if not vocabularies:
        return []
    first, *others = [
        {piece: token_id for token_id, piece in enumerate(vocabulary.pieces) if piece is not None}
        for vocabulary in vocabularies
    ]
    shared = [piece for piece in first if all(piece in other for other in others)]
    return sorted((first[piece], *(other[piece] for other in others)) for piece in shared)
