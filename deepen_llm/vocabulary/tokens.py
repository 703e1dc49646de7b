"""The table of a vocabulary's tokens, one entry per logit: bytes, and which ids are special, added or padding."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Self, final

from deepen_llm.errors import VocabularyError, quote

MAX_WHOLE_TEXT = 256
"""The longest token that is found whole in a text, in characters; of real tokenizers the longest has some fifty."""
MAX_WHOLE_TEXTS = 1_000_000
"""How many characters all of them may have."""


@final
@dataclass(frozen=True, slots=True)
class Pieces:
    """What a tokenizer's ids stand for, whatever the model's number of logits is."""

    tokens: Mapping[int, bytes]
    """The bytes of every token of text; those of special tokens may be among them and do not count."""
    strings: Mapping[int, str]
    """Every token as the tokenizer's vocabulary writes it, special ones included."""
    kind: str
    """The tokenizer's model and notation, such as "BPE, byte-level", for people to read."""
    whole_texts: Mapping[int, str]
    """The tokens that are found whole in a text, special or not, and how they are written."""
    special_ids: frozenset[int]
    """Those of `whole_texts` that plain text never becomes."""
    ordinary_ids: frozenset[int] = frozenset()
    """Those of `whole_texts` that are text whatever else they serve for: never special."""
    fallback_ids: frozenset[int] = frozenset()
    """The `<0xNN>` tokens of the SentencePiece kind."""
    eos_ids: tuple[int, ...] = ()
    bos_id: int | None = None
    unk_id: int | None = None


@final
@dataclass(frozen=True, slots=True)
class TokenTable:
    """One entry per logit. `tokens` holds None for special ids, ends of sequence and padding."""

    tokens: tuple[bytes | None, ...]
    kind: str
    """The tokenizer's model and notation, such as "BPE, byte-level"."""
    special_ids: frozenset[int]
    added_ids: frozenset[int]
    padded_ids: frozenset[int]
    fallback_ids: frozenset[int]
    """The `<0xNN>` tokens of the SentencePiece kind."""
    eos_ids: tuple[int, ...]
    bos_id: int | None
    unk_id: int | None
    special_texts: dict[int, str]
    """How special tokens are written, in the order of their ids."""
    pieces: tuple[str | None, ...]
    """Every token as the tokenizer's vocabulary writes it, special ones included; None for padding."""

    @classmethod
    def build(cls, pieces: Pieces, name: str, num_logits: int | None = None, eos_ids: Iterable[int] = ()) -> Self:
        """The table of a tokenizer together with a model.

        Args:
            pieces: What the tokenizer has.
            name: What errors call it.
            num_logits: How many logits the model has; ids without a token are padding. None: as many as there are
                tokens.
            eos_ids: Ids that end a sequence, besides the tokenizer's own.

        Raises:
            VocabularyError: Text tokens lie beyond the logits, or special and added tokens are absurdly long.
        """
        check_whole_texts(name, pieces.whole_texts)
        texts, ends = pieces.whole_texts, tuple(dict.fromkeys([*pieces.eos_ids, *eos_ids]))
        special = (pieces.special_ids | {token_id for token_id in ends if token_id in texts}) - pieces.ordinary_ids
        size = num_logits if num_logits is not None else max((*pieces.tokens, *texts), default=-1) + 1
        _check_size(name, size, (token_id for token_id in pieces.tokens if token_id not in texts))
        unspoken, ids = special | set(ends), range(size)
        return cls(
            tokens=tuple(None if token_id in unspoken else pieces.tokens.get(token_id) for token_id in ids),
            kind=pieces.kind,
            special_ids=frozenset(token_id for token_id in special if token_id < size),
            added_ids=frozenset(token_id for token_id in texts if token_id < size and token_id not in special),
            padded_ids=frozenset(ids) - pieces.tokens.keys() - texts.keys(),
            fallback_ids=pieces.fallback_ids,
            eos_ids=tuple(token_id for token_id in ends if 0 <= token_id < size),
            bos_id=pieces.bos_id,
            unk_id=pieces.unk_id,
            special_texts={token_id: texts[token_id] for token_id in sorted(special)},
            pieces=tuple(pieces.strings.get(token_id) for token_id in ids),
        )

    def with_end(self, token_id: int | None) -> Self:
        """The table with one more special token that ends a text; a BOS, which may follow any text, is none."""
        if token_id is None or token_id in (*self.eos_ids, self.bos_id) or token_id not in self.special_ids:
            return self
        return replace(self, eos_ids=(*self.eos_ids, token_id))


def check_whole_texts(name: str, texts: Mapping[int, str]) -> None:
    """Refuse special and added tokens that are absurdly long or many: they are looked for at every place of every text.

    Raises:
        VocabularyError: It names the longest.
    """
    longest = max(texts.values(), key=len, default="")
    total = sum(map(len, texts.values()))
    if len(longest) > MAX_WHOLE_TEXT or total > MAX_WHOLE_TEXTS:
        raise VocabularyError(
            f"special and added tokens must have at most {MAX_WHOLE_TEXT} characters, and {MAX_WHOLE_TEXTS:,} all "
            f"together; those of {quote(name)} have {total:,}, the longest {len(longest):,} ({quote(longest)}): take a "
            "tokenizer without it"
        )


def _check_size(name: str, size: int, text_ids: Iterable[int]) -> None:
    """Added tokens beyond the logits do no harm: they stay text. Any other would break the model."""
    last = max(text_ids, default=-1)
    if last >= size:
        raise VocabularyError(
            f"every token of {name!r} must have a logit: the model has {size} logits, but the tokenizer has tokens up "
            f"to id {last}: give the tokenizer that belongs to the model"
        )
