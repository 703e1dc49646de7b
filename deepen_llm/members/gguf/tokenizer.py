"""A GGUF file's own tokenizer, as llama.cpp runs it, as the source of a vocabulary.

It stands on files that llama.cpp opened for their vocabularies alone, so that it outlives a member that is closed.
"""

from __future__ import annotations

import ctypes
from collections.abc import Collection, Mapping, Sequence
from typing import Any, final

from tokenizers import AddedToken

from deepen_llm.errors import VocabularyError
from deepen_llm.members.gguf.header import Header
from deepen_llm.members.gguf.model import LlamaModel
from deepen_llm.members.gguf.segmenter import GGUFSegmenter
from deepen_llm.vocabulary.rendering import render_template
from deepen_llm.vocabulary.specials import SpecialFinder
from deepen_llm.vocabulary.tokens import Pieces

UNKNOWN, UNUSED, CONTROL, USER_DEFINED, BYTE = 1, 2, 8, 16, 32
LEFT_STRIP, RIGHT_STRIP, SINGLE_WORD = 128, 256, 512
"""What llama.cpp says of a token, `llama_token_attr`."""
SENTENCEPIECE = 1
READABLE = {SENTENCEPIECE: "SentencePiece", 2: "BPE", 5: "RWKV", 6: "PLaMo-2", 8: "PLaMo-3"}
"""`llama_vocab_type`: those whose tokens spell a text as it is."""
PIECE_BYTES = 4096


@final
class GGUFTokenizer:
    """Reads a file's vocabulary. A `TokenizerSource`."""

    def __init__(self, header: Header, name: str) -> None:
        """Open it.

        Raises:
            MemberError: llama.cpp cannot read it.
            VocabularyError: Its tokens do not spell texts as they are.
        """
        self._header = header
        self._model = LlamaModel.load_vocabulary(header.path, name)
        library, vocab = self._model.library, self._model.vocab
        kind = library.llama_vocab_type(vocab)
        if kind not in READABLE:
            raise VocabularyError(
                f"the tokens of {name!r} must be readable as bytes, and those of this GGUF file are not (its tokenizer "
                f"is {header.settings.get('tokenizer.ggml.model')!r}): take a model with a BPE or "
                "SentencePiece tokenizer"
            )
        self._kind = f"{READABLE[kind]}, {header.settings.get('tokenizer.ggml.pre', 'llama.cpp')}"
        self._attributes = [library.llama_vocab_get_attr(vocab, i) for i in range(library.llama_vocab_n_tokens(vocab))]
        self._bos, self._eos = library.llama_vocab_bos(vocab), library.llama_vocab_eos(vocab)
        self._adds_space = kind == SENTENCEPIECE and header.settings.get("tokenizer.ggml.add_space_prefix", True)
        self._continuing = (
            LlamaModel.load_vocabulary(header.path, name, add_space_prefix=False) if self._adds_space else self._model
        )

    @property
    def num_tokens(self) -> int:
        """How many tokens the file lists, which is how many logits the model has."""
        return len(self._attributes)

    @property
    def has_chat_template(self) -> bool:
        """Whether the file has one."""
        return bool(self._template)

    def read_pieces(self, name: str) -> Pieces:
        """What the ids stand for; see `TokenizerSource.read_pieces`."""
        del name
        library, vocab = self._model.library, self._model.vocab
        texts, tokens, strings, ends, special = {}, {}, {}, [], set()
        for token_id, attributes in enumerate(self._attributes):
            if attributes & UNUSED:
                continue
            strings[token_id] = self._write(token_id)
            is_end = library.llama_vocab_is_eog(vocab, token_id) and (token_id != self._eos or self._has("eos"))
            if is_end:
                ends.append(token_id)
            if is_end or attributes & (UNKNOWN | CONTROL):
                special.add(token_id)
            elif piece := self._spell(token_id):
                tokens[token_id] = piece
            if token_id in special or attributes & USER_DEFINED:
                texts[token_id] = strings[token_id]
        return Pieces(
            tokens=tokens,
            strings=strings,
            kind=self._kind,
            whole_texts=texts,
            special_ids=frozenset(special),
            fallback_ids=frozenset(i for i, attributes in enumerate(self._attributes) if attributes & BYTE),
            eos_ids=tuple(sorted(ends, key=lambda token_id: token_id != self._eos)),
            bos_id=self._bos if self._has("bos") else None,
            unk_id=next((i for i, attributes in enumerate(self._attributes) if attributes & UNKNOWN), None),
        )

    def make_segmenter(self, special_ids: Collection[int], num_logits: int) -> GGUFSegmenter:
        """What cuts plain text, as llama.cpp does it."""
        del num_logits
        library, vocab = self._model.library, self._model.vocab
        pieces = [self._spell(token_id) for token_id in range(len(self._attributes))]
        unwanted = {
            token_id: self._write(token_id) for token_id in special_ids if not self._attributes[token_id] & UNKNOWN
        }
        prefix = (self._bos,) if library.llama_vocab_get_add_bos(vocab) and self._has("bos") else ()
        return GGUFSegmenter(self._model, self._continuing, pieces, unwanted, prefix)

    def make_special_finder(self, special_texts: Mapping[int, str]) -> SpecialFinder:
        """Finds special tokens among those that are found whole, with the spaces that they swallow."""
        texts = {
            token_id: special_texts.get(token_id) or self._spell(token_id).decode("utf-8", "replace")
            for token_id, attributes in enumerate(self._attributes)
            if token_id in special_texts or attributes & USER_DEFINED
        }
        added = {
            token_id: AddedToken(
                text,
                special=token_id in special_texts,
                normalized=False,
                lstrip=bool(self._attributes[token_id] & LEFT_STRIP),
                rstrip=bool(self._attributes[token_id] & RIGHT_STRIP),
                single_word=bool(self._attributes[token_id] & SINGLE_WORD),
            )
            for token_id, text in texts.items()
            if text
        }
        return SpecialFinder(special_texts, added)

    def render_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        template: str | None,
        variables: Mapping[str, Any],
        *,
        max_characters: int,
        timeout_s: float | None,
    ) -> str:
        """The messages through the file's template, as Jinja; see `TokenizerSource.render_chat`."""
        tokens = {
            f"{name}_token": self._write(token_id)
            for name, token_id in (("bos", self._bos), ("eos", self._eos))
            if self._has(name)
        }
        return render_template(
            template or self._template,
            {"tools": None, "documents": None, **tokens, **variables, "messages": messages},
            max_characters=max_characters,
            timeout_s=timeout_s,
        )

    def _has(self, name: str) -> bool:
        """Whether there is such a token, "bos" or "eos": where a file names none, llama.cpp takes any."""
        token_id = self._bos if name == "bos" else self._eos
        is_named = f"tokenizer.ggml.{name}_token_id" in self._header.settings
        return token_id >= 0 and (is_named or bool(self._attributes[token_id] & CONTROL))

    def _write(self, token_id: int) -> str:
        """A token as the vocabulary writes it."""
        text: bytes = self._model.library.llama_vocab_get_text(self._model.vocab, token_id)
        return text.decode("utf-8", "replace")

    @property
    def _template(self) -> str:
        return str(self._header.settings.get("tokenizer.chat_template") or "")

    def _spell(self, token_id: int) -> bytes:
        """A token's bytes; none of a special one."""
        buffer = ctypes.create_string_buffer(PIECE_BYTES)
        library, vocab = self._model.library, self._model.vocab
        size = library.llama_token_to_piece(vocab, token_id, buffer, PIECE_BYTES, 0, False)
        if size < 0:
            buffer = ctypes.create_string_buffer(-size)
            size = library.llama_token_to_piece(vocab, token_id, buffer, -size, 0, False)
        return buffer.raw[: max(size, 0)]
