"""One member's vocabulary: its tokens as bytes, and prompts, chats and running text as its tokenizer cuts them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self, final

import torch
from torch import Tensor

from deepen_llm.errors import PromptError
from deepen_llm.vocabulary.chat import ChatTemplate, Message, check_text
from deepen_llm.vocabulary.parts import SPACE_MARK
from deepen_llm.vocabulary.prefixes import TokenPrefixes
from deepen_llm.vocabulary.safe_cuts import SafeCuts
from deepen_llm.vocabulary.segmenter import Segmentation, Segmenter
from deepen_llm.vocabulary.source import TokenizerSource
from deepen_llm.vocabulary.specials import Json, Section
from deepen_llm.vocabulary.tokens import TokenTable
from deepen_llm.vocabulary.transformers_tokenizer import TransformersTokenizer


@dataclass(frozen=True, slots=True)
class EncodedText:
    """A tokenized prompt. `ids[:num_fixed]` stay as they are; `text` is the plain text of the ids after them.

    Fixed are a BOS and, in a chat, everything up to the last special token of the template. `at_start` says whether
    `text` is tokenized as the start of a text (with the dummy space, where the tokenizer has one).
    """

    ids: tuple[int, ...]
    num_fixed: int
    text: str
    at_start: bool = True
    contents: tuple[str, ...] = ()
    """What people wrote of it: the whole prompt, or the messages of a chat without what the template puts around them,
    in the order in which they stand in the prompt."""
    opens_with_space: bool = False
    """Whether the chat template puts one space, not yet among the ids, before an answer, which does not count it."""
    starts: tuple[int, ...] = ()
    """For each of `ids[num_fixed:]` the character of `text` where it begins, as `Segmentation` has it."""
    source_ids: tuple[int, ...] = ()
    """What an encoder reads; the ids are then those from which its decoder begins. Empty: the ids are the prompt."""


@final
class Vocabulary:
    """One member's tokens as bytes, one per logit, and its tokenizer's ways. Safe to share between threads."""

    def __init__(
        self, name: str, table: TokenTable, segmenter: Segmenter, chat: ChatTemplate, prefix_ids: Sequence[int] = ()
    ) -> None:
        self.name = name
        self.tokens = table.tokens
        """One per logit: the token's exact bytes; None for special, end-of-sequence and padded ids."""
        self.pieces = table.pieces
        """One per logit: the token as the tokenizer's vocabulary writes it; None for padding."""
        self.kind = table.kind
        """The kind of tokenizer, such as "BPE, byte-level", for people to read."""
        self.special_ids = table.special_ids
        self.added_ids = table.added_ids
        """Added tokens that are not special: text tokens like any other."""
        self.padded_ids = table.padded_ids
        """Logits without a token: never sampled."""
        self.eos_ids = table.eos_ids
        self.bos_id = table.bos_id
        self.unk_id = table.unk_id
        self.prefix_ids = tuple(prefix_ids)
        """What the tokenizer puts before a prompt: a BOS, mostly, or nothing."""
        self.adds_prefix_space = segmenter.adds_prefix_space
        """Whether the start of a text is tokenized with one dummy space before it."""
        self.has_chat_template = chat.exists
        self._special_texts = table.special_texts
        self._fallback_ids = table.fallback_ids
        self._segmenter = segmenter
        self._chat = chat
        added = [token.decode() for token in (self.tokens[token_id] for token_id in sorted(self.added_ids)) if token]
        self._safe_cuts = SafeCuts(segmenter, self.tokens, added)

    @classmethod
    def from_tokenizer(
        cls,
        tokenizer: Any,
        *,
        name: str,
        num_logits: int | None = None,
        eos_ids: Iterable[int] = (),
        chat_template: str | None = None,
    ) -> Self:
        """Read a tokenizer of transformers 5; it is not changed, and its truncation and padding do not count.

        Args:
            tokenizer: Backed by the tokenizers library, or a Python tokenizer whose tokens are bytes.
            name: What errors call this member.
            num_logits: How many logits the model has; None takes one per token.
            eos_ids: Ids that end a sequence, besides the tokenizer's own and what the chat template puts after an
                assistant's message.
            chat_template: A Jinja template in place of the tokenizer's own, or "plain".

        Raises:
            VocabularyError: The tokens cannot be read as bytes (WordPiece, say), or do not fit the logits.
        """
        return cls.from_source(
            TransformersTokenizer(tokenizer),
            name=name,
            num_logits=num_logits,
            eos_ids=eos_ids,
            chat_template=chat_template,
        )

    @classmethod
    def from_source(
        cls,
        source: TokenizerSource,
        *,
        name: str,
        num_logits: int | None = None,
        eos_ids: Iterable[int] = (),
        chat_template: str | None = None,
    ) -> Self:
        """Read a tokenizer of any library; the arguments are those of `from_tokenizer`.

        Raises:
            VocabularyError: The tokens cannot be read as bytes, or do not fit the logits.
        """
        table = TokenTable.build(source.read_pieces(name), name, num_logits, eos_ids)
        segmenter = source.make_segmenter(table.special_texts, len(table.tokens))
        chat = ChatTemplate(source, name, table.special_texts, chat_template)
        table = table.with_end(chat.turn.end_id)
        return cls(name, table, segmenter, chat, segmenter.prefix_ids)

    def __len__(self) -> int:
        return len(self.tokens)

    def __repr__(self) -> str:
        return f"Vocabulary({self.name!r}, {len(self.tokens)} tokens)"

    @cached_property
    def prefixes(self) -> TokenPrefixes:
        """The tokens in the order of their bytes."""
        return TokenPrefixes(self.tokens)

    @cached_property
    def ids_by_token(self) -> dict[bytes, int]:
        """For every byte string that is a token: the id that the tokenizer makes of it, in the order of the ids.

        Of several ids, an added token goes before a piece of the model, and that before a byte-fallback token; then
        the lowest id counts.
        """
        ids = range(len(self.tokens))
        ranks = [(token_id in self._fallback_ids, token_id not in self.added_ids) for token_id in ids]
        chosen: dict[bytes, int] = {}
        for token_id, token in enumerate(self.tokens):
            if token is not None and (token not in chosen or ranks[token_id] < ranks[chosen[token]]):
                chosen[token] = token_id
        return chosen

    @cached_property
    def same_ids(self) -> dict[int, tuple[int, ...]]:
        """For every id that is not alone in what it says, all that say it: the same bytes, or end-of-sequence."""
        by_text: dict[bytes | None, list[int]] = {None: list(self.eos_ids)}
        for token_id, token in enumerate(self.tokens):
            if token:
                by_text.setdefault(token, []).append(token_id)
        return {token_id: tuple(ids) for ids in by_text.values() if len(ids) > 1 for token_id in ids}

    def with_same(self, ids: Iterable[int]) -> set[int]:
        """The ids, and all that say the same as one of them."""
        return {same for token_id in ids for same in self.same_ids.get(token_id, (token_id,))}

    @cached_property
    def allowed(self) -> Tensor:
        """The tokens that may come, those with at least one byte and end-of-sequence: `(num_logits,)` bool, on the CPU.

        One tensor for all who ask: not to be changed.
        """
        with torch.inference_mode(mode=False):  # whoever asks first, it is an ordinary tensor for all
            allowed = torch.tensor([bool(token) for token in self.tokens])
            allowed[list(self.eos_ids)] = True
        return allowed

    @cached_property
    def fingerprint(self) -> str:
        """The same for vocabularies whose ids mean the same: every token, and which ids are special or end a text."""
        digest = hashlib.sha256(repr((self.eos_ids, sorted(self.special_ids))).encode())
        for token in self.tokens:
            digest.update(b"-" if token is None else b"%d:%b" % (len(token), token))
        return digest.hexdigest()

    @cached_property
    def byte_ids(self) -> tuple[int | None, ...]:
        """256 entries: the token that is that single byte (the SentencePiece kind's `<0xNN>`), or None."""
        ids = [self.ids_by_token.get(bytes((byte,))) for byte in range(256)]
        for token_id in self._fallback_ids:
            token = self.tokens[token_id]
            if token is not None:
                ids[token[0]] = token_id
        return tuple(ids)

    def encode(self, text: str, *, at_start: bool = True) -> list[int]:
        """The tokens of plain text: no BOS, no special token whatever the text says.

        With `at_start` False the text continues other text: no dummy space. What the tokenizer cannot express comes
        out as it does it: the unknown id, or nothing (see `can_express`).
        """
        return self._segmenter.segment(text, at_start).ids

    def segment(self, text: str, *, at_start: bool = True) -> Segmentation:
        """As `encode`, with the character of the text where each token begins."""
        return self._segmenter.segment(text, at_start)

    def count_spaces_before(self, prompt: EncodedText) -> int:
        """With how many spaces an answer to the prompt begins that are no part of it: the dummy, and the template's."""
        return prompt.opens_with_space + (self.adds_prefix_space and prompt.at_start and not prompt.text)

    def continues_with_space(self, prompt: EncodedText) -> bool:
        """Whether an answer to the prompt begins with a space that is no part of it."""
        return self.count_spaces_before(prompt) > 0

    def encode_reply(self, prompt: EncodedText, text: str) -> list[int]:
        """The tokens of an answer to a prompt, with the spaces before it that are no part of it."""
        return self.encode(" " * prompt.opens_with_space + text, at_start=prompt.at_start and not prompt.text)

    def can_express(self, text: str) -> bool:
        """Whether the tokens spell the text out, its normalization aside: no unknown token, nothing dropped."""
        ids = self.encode(text, at_start=False)
        spelled = self._segmenter.normalize(text).replace(SPACE_MARK, " ")
        return self.unk_id not in ids and self.join(ids) == spelled.encode("utf-8", "replace")

    def join(self, ids: Iterable[int]) -> bytes:
        """The bytes of the ids, a dummy space included; special and padded ids are skipped."""
        return b"".join(self.tokens[token_id] or b"" for token_id in ids)

    def display(self, token_id: int) -> str:
        """A token for people to read: its text, U+FFFD for parts of a character, a special token as it is written."""
        token = self.tokens[token_id]
        return self._special_texts.get(token_id, "") if token is None else token.decode("utf-8", "replace")

    def special_id(self, text: str) -> int | None:
        """The special token that is written so; None where there is none."""
        found = (token_id for token_id, special in self._special_texts.items() if special == text)
        return next((token_id for token_id in found if token_id < len(self)), None)

    def last_safe_cut(self, text: str) -> int:
        """The last character where the text may be cut, 0 where there is none.

        The tokens of the two sides, taken apart (the right one with `at_start` False), are those of the whole,
        whatever follows later.
        """
        return self._safe_cuts.last(text)

    def encode_prompt(self, text: str) -> EncodedText:
        """A prompt, with what the tokenizer puts before one (BOS) and without what it puts after (EOS).

        Raises:
            PromptError: A lone surrogate, or nothing at all to begin from: no text and no BOS.
        """
        check_text(text, "the prompt")
        segmentation = self.segment(text)
        ids = (*self.prefix_ids, *segmentation.ids)
        if not ids:
            raise PromptError(
                f"the prompt must not be empty: the tokenizer of {self.name!r} adds no BOS, so that there is no token "
                "to begin from: give at least one character"
            )
        return EncodedText(ids, len(self.prefix_ids), text, contents=(text,), starts=tuple(segmentation.starts))

    def encode_chat(
        self,
        messages: Sequence[Message],
        *,
        chat_template_kwargs: Mapping[str, Json] | None = None,
        timeout_s: float | None = None,
    ) -> EncodedText:
        """Messages through the chat template, up to where the answer begins; nothing in a message becomes special.

        A last message of the assistant is gone on with.

        Args:
            messages: Roles and texts.
            chat_template_kwargs: Further variables that the template sees, such as `enable_thinking`.
            timeout_s: Seconds that are left; None is as long as a template may take at all.

        Raises:
            PromptError: Messages that are not roles and texts, no template, or one that refuses them.
            ConfigError: Variables that no template can get.
            MemberTimeoutError: The time was over.
        """
        ids: list[int] = []
        num_fixed, text, at_start = 0, "", True
        starts: list[int] = []
        chat = self._chat.render(messages, chat_template_kwargs, timeout_s)
        before_space = chat.lead.removesuffix(" ")
        for section in [*chat.sections, Section(before_space)] if before_space else chat.sections:
            if section.special_id is None:
                text += section.text
                segmentation = self.segment(text, at_start=at_start)
                ids[num_fixed:], starts = segmentation.ids, segmentation.starts
                continue
            ids.append(section.special_id)
            num_fixed, text, at_start, starts = len(ids), "", self._segmenter.prefixes_sections, []
        if not ids:
            raise PromptError(f"the chat template of {self.name!r} made nothing of the messages: check the template")
        contents = tuple(message["content"] for message in messages)
        opens_with_space = chat.lead.endswith(" ")
        return EncodedText(tuple(ids), num_fixed, text, at_start, contents, opens_with_space, tuple(starts))
