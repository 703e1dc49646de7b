"""A tokenizer of transformers 5 as the source of a vocabulary."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

from tokenizers import AddedToken, Tokenizer

from deepen_llm.errors import VocabularyError
from deepen_llm.vocabulary.notation import BYTE_PIECE, detect_notation, read_piece
from deepen_llm.vocabulary.parts import can_produce
from deepen_llm.vocabulary.rendering import render_template
from deepen_llm.vocabulary.segmenter import BackendSegmenter, BytesSegmenter, Segmenter
from deepen_llm.vocabulary.specials import SpecialFinder
from deepen_llm.vocabulary.tokens import Pieces


@dataclass(frozen=True, slots=True)
class _Read:
    """What is read in another way of each kind of tokenizer; see `Pieces`."""

    tokens: dict[int, bytes]
    kind: str
    fallback_ids: frozenset[int] = frozenset()
    special_texts: dict[int, str] = field(default_factory=dict)


@final
class TransformersTokenizer:
    """Reads a tokenizer that the tokenizers library backs, or one in Python whose tokens are bytes; changes neither."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._backend = read_backend(tokenizer)
        self._added: dict[int, AddedToken] = dict(sorted(tokenizer.added_tokens_decoder.items()))

    @property
    def has_chat_template(self) -> bool:
        """Whether the tokenizer came with a template."""
        return bool(getattr(self._tokenizer, "chat_template", None))

    def read_pieces(self, name: str) -> Pieces:
        """What the ids stand for; see `TokenizerSource.read_pieces`."""
        tokenizer, added = self._tokenizer, self._added
        read = self._read_bytes(name) if self._backend is None else self._read_backend(self._backend, name)
        strings = {token_id: str(piece) for piece, token_id in tokenizer.get_vocab().items()}
        texts = {token_id: token.content for token_id, token in added.items()} | read.special_texts
        special = {token_id for token_id in texts if token_id not in added or added[token_id].special}
        return Pieces(
            tokens=read.tokens,
            strings=strings,
            kind=read.kind,
            whole_texts=texts,
            special_ids=frozenset(special | (texts.keys() & set(tokenizer.all_special_ids))),
            ordinary_ids=_ordinary_padding(tokenizer, texts),
            fallback_ids=read.fallback_ids,
            eos_ids=() if tokenizer.eos_token_id is None else (tokenizer.eos_token_id,),
            bos_id=tokenizer.bos_token_id,
            unk_id=tokenizer.unk_token_id,
        )

    def make_segmenter(self, special_ids: Collection[int], num_logits: int) -> Segmenter:
        """The segmenter of plain text. Added tokens beyond the logits are left out: they stay text."""
        if self._backend is None:
            return BytesSegmenter(self._tokenizer)
        return BackendSegmenter(self._backend, special_ids, num_logits)

    def make_special_finder(self, special_texts: Mapping[int, str]) -> SpecialFinder:
        """Finds special tokens among the added ones, with the spaces that they swallow."""
        return SpecialFinder(special_texts, self._added, None if self._backend is None else self._backend.normalizer)

    def render_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        template: str | None,
        variables: Mapping[str, Any],
        *,
        max_characters: int,
        timeout_s: float | None,
    ) -> str:
        """The messages through the template, as transformers renders it; see `TokenizerSource.render_chat`."""
        from transformers import PreTrainedTokenizerBase

        tokenizer = self._tokenizer
        if type(tokenizer).apply_chat_template is not PreTrainedTokenizerBase.apply_chat_template:
            # It has a way of its own, without Jinja mostly.
            chat = [dict(message) for message in messages]
            own: str = tokenizer.apply_chat_template(chat, chat_template=template, tokenize=False, **variables)
            return own
        return render_template(
            tokenizer.get_chat_template(template, variables.get("tools")),
            {"tools": None, "documents": None, **tokenizer.special_tokens_map, **variables, "messages": messages},
            max_characters=max_characters,
            timeout_s=timeout_s,
        )

    def _read_backend(self, backend: Tokenizer, name: str) -> _Read:
        """Every id's bytes, and which of the ids are byte-fallback tokens."""
        notation = detect_notation(backend, name)
        model_pieces = backend.get_vocab(with_added_tokens=False)
        tokens = {token_id: token.content.encode("utf-8", "replace") for token_id, token in self._added.items()}
        tokens |= {token_id: read_piece(piece, notation) for piece, token_id in model_pieces.items()}
        kind = f"{type(backend.model).__name__}, {notation}"
        if notation == "byte-level":
            return _Read(tokens, kind)
        fallback = (token_id for piece, token_id in model_pieces.items() if BYTE_PIECE.fullmatch(piece))
        return _Read(tokens, kind, frozenset(fallback))

    def _read_bytes(self, name: str) -> _Read:
        """The same of a tokenizer written in Python (tiktoken-style): bytes are text, strings are special."""
        tokenizer = self._tokenizer
        ids = sorted(tokenizer.get_vocab().values())
        pieces = dict(zip(ids, tokenizer.convert_ids_to_tokens(ids), strict=True))
        tokens = {token_id: piece for token_id, piece in pieces.items() if isinstance(piece, bytes)}
        if not tokens:
            raise VocabularyError(
                f"the tokens of {name!r} must be readable as bytes, but {type(tokenizer).__name__} is a Python "
                "tokenizer that shows neither bytes nor the tokenizers library's parts: use a model whose folder has a "
                "tokenizer.json"
            )
        special_texts = {token_id: str(piece) for token_id, piece in pieces.items() if token_id not in tokens}
        return _Read(tokens, "tiktoken", special_texts=special_texts)


def read_backend(tokenizer: Any) -> Tokenizer | None:
    """The tokenizers-library object inside a transformers tokenizer, or None where it has none."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return backend if isinstance(backend, Tokenizer) else None


def _ordinary_padding(tokenizer: Any, texts: dict[int, str]) -> frozenset[int]:
    """The padding token where it is a character of the text, such as `!`, and nothing else: it stays a text token."""
    backend, pad_id = read_backend(tokenizer), tokenizer.pad_token_id
    if backend is None or pad_id in (None, tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.unk_token_id):
        return frozenset()
    is_text = len(texts[pad_id]) == 1 and can_produce(backend.model, texts[pad_id], pad_id)
    return frozenset((pad_id,)) if is_text else frozenset()
