"""The table of a tokenizer's tokens: bytes, and which ids are special, added or padding."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tokenizers import AddedToken, Tokenizer

from deepen_llm.errors import VocabularyError
from deepen_llm.vocabulary.notation import BYTE_PIECE, detect_notation, read_piece
from deepen_llm.vocabulary.parts import can_produce


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
    """How special tokens are written."""
    pieces: tuple[str | None, ...]
    """Every token as the tokenizer's vocabulary writes it, special ones included; None for padding."""


@dataclass(frozen=True, slots=True)
class Pieces:
    """What a tokenizer's ids stand for, before any is told special."""

    tokens: dict[int, bytes]
    kind: str
    fallback_ids: frozenset[int] = frozenset()
    special_texts: dict[int, str] | None = None


def read_backend(tokenizer: Any) -> Tokenizer | None:
    """The tokenizers-library object inside a transformers tokenizer, or None where it has none."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return backend if isinstance(backend, Tokenizer) else None


def read_added_tokens(tokenizer: Any) -> dict[int, AddedToken]:
    """The added tokens by id, in the order of their ids."""
    return dict(sorted(tokenizer.added_tokens_decoder.items()))


def read_table(tokenizer: Any, name: str, num_logits: int | None, eos_ids: Iterable[int]) -> TokenTable:
    """Read every token of a transformers tokenizer as bytes.

    Args:
        tokenizer: A tokenizer of transformers 5.
        name: What errors call it.
        num_logits: How many logits the model has; ids without a token are padding. None: as many as there are tokens.
        eos_ids: Ids that end a sequence, besides the tokenizer's own.

    Raises:
        VocabularyError: The tokens cannot be read as bytes, or text tokens lie beyond the logits.
    """
    added = read_added_tokens(tokenizer)
    pieces = _read_pieces(tokenizer, name, added)
    ends = tuple(dict.fromkeys([*_single(tokenizer.eos_token_id), *eos_ids]))
    texts = {token_id: token.content for token_id, token in added.items()} | (pieces.special_texts or {})
    special = {token_id for token_id in texts if token_id not in added or added[token_id].special}
    special |= {token_id for token_id in (*tokenizer.all_special_ids, *ends) if token_id in texts}
    special -= _ordinary_padding(tokenizer, texts)
    size = num_logits if num_logits is not None else max((*pieces.tokens, *texts), default=-1) + 1
    _check_size(name, size, (token_id for token_id in pieces.tokens if token_id not in texts))
    unspoken = special | set(ends)
    return TokenTable(
        tokens=tuple(None if token_id in unspoken else pieces.tokens.get(token_id) for token_id in range(size)),
        kind=pieces.kind,
        special_ids=frozenset(token_id for token_id in special if token_id < size),
        added_ids=frozenset(token_id for token_id in added if token_id < size and token_id not in special),
        padded_ids=frozenset(
            token_id for token_id in range(size) if token_id not in pieces.tokens and token_id not in texts
        ),
        fallback_ids=pieces.fallback_ids,
        eos_ids=tuple(token_id for token_id in ends if token_id < size),
        bos_id=tokenizer.bos_token_id,
        unk_id=tokenizer.unk_token_id,
        special_texts={token_id: texts[token_id] for token_id in sorted(special)},
        pieces=_read_strings(tokenizer, size),
    )


def _read_strings(tokenizer: Any, size: int) -> tuple[str | None, ...]:
    """Every entry of the vocabulary as it is written, `size` of them."""
    strings = {token_id: str(piece) for piece, token_id in tokenizer.get_vocab().items()}
    return tuple(strings.get(token_id) for token_id in range(size))


def _single(token_id: int | None) -> list[int]:
    return [] if token_id is None else [token_id]


def _ordinary_padding(tokenizer: Any, texts: dict[int, str]) -> set[int]:
    """The padding token where it is a character of the text, such as `!`, and nothing else: it stays a text token."""
    backend, pad_id = read_backend(tokenizer), tokenizer.pad_token_id
    if backend is None or pad_id in (None, tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.unk_token_id):
        return set()
    is_text = len(texts[pad_id]) == 1 and can_produce(backend.model, texts[pad_id], pad_id)
    return {pad_id} if is_text else set()


def _check_size(name: str, size: int, text_ids: Iterable[int]) -> None:
    """Added tokens beyond the logits do no harm: they stay text. Any other would break the model."""
    last = max(text_ids, default=-1)
    if last >= size:
        raise VocabularyError(
            f"every token of {name!r} must have a logit: the model has {size} logits, but the tokenizer has tokens up "
            f"to id {last}: give the tokenizer that belongs to the model"
        )


def _read_pieces(tokenizer: Any, name: str, added: dict[int, AddedToken]) -> Pieces:
    """Every id's bytes, and which of them are byte-fallback tokens."""
    backend = read_backend(tokenizer)
    if backend is None:
        return _read_python_pieces(tokenizer, name)
    notation = detect_notation(backend, name)
    model_pieces = backend.get_vocab(with_added_tokens=False)
    tokens = {token_id: token.content.encode("utf-8", "replace") for token_id, token in added.items()}
    tokens |= {token_id: read_piece(piece, notation) for piece, token_id in model_pieces.items()}
    kind = f"{type(backend.model).__name__}, {notation}"
    if notation == "byte-level":
        return Pieces(tokens, kind)
    fallback = (token_id for piece, token_id in model_pieces.items() if BYTE_PIECE.fullmatch(piece))
    return Pieces(tokens, kind, frozenset(fallback))


def _read_python_pieces(tokenizer: Any, name: str) -> Pieces:
    """The tokens of a tokenizer written in Python (tiktoken-style): bytes are text, strings are special."""
    ids = sorted(tokenizer.get_vocab().values())
    pieces = dict(zip(ids, tokenizer.convert_ids_to_tokens(ids), strict=True))
    tokens = {token_id: piece for token_id, piece in pieces.items() if isinstance(piece, bytes)}
    if not tokens:
        raise VocabularyError(
            f"the tokens of {name!r} must be readable as bytes, but {type(tokenizer).__name__} is a Python tokenizer "
            "that shows neither bytes nor the tokenizers library's parts: use a model whose folder has a tokenizer.json"
        )
    return Pieces(tokens, "tiktoken", special_texts={i: str(piece) for i, piece in pieces.items() if i not in tokens})
