"""Chat messages through a tokenizer's own template: the template's special tokens are special, a message's never."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import BPE

from deepen_llm.errors import PromptError
from deepen_llm.vocabulary.tokens import read_added_tokens, read_backend

Message = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Section:
    """One part of a rendered chat: a special token, or the plain text between two of them."""

    text: str
    special_id: int | None = None


class ChatTemplate:
    """One tokenizer's chat template, rendered for generation and split at its special tokens."""

    def __init__(self, tokenizer: Any, name: str, special_ids: frozenset[int], template: str | None = None) -> None:
        self._tokenizer = tokenizer
        self._name = name
        self._template = template
        self._finder = SpecialFinder(tokenizer, special_ids)

    @property
    def exists(self) -> bool:
        """Whether there is a template at all."""
        return self._template is not None or bool(getattr(self._tokenizer, "chat_template", None))

    def split(self, messages: Sequence[Message]) -> list[Section]:
        """The rendered chat as plain text and special tokens, in order, up to where the answer begins.

        Raises:
            PromptError: Messages that are not roles and texts, no template, or a template that refuses the messages.
        """
        self._check(messages)
        sections = self._finder.split(self._render(messages))
        hidden = self._finder.hide(messages)
        if hidden is None:
            return sections
        mark, marked = hidden
        guarded = [
            Section(section.text.replace(mark, ""), section.special_id)
            for section in self._finder.split(self._render(marked))
        ]
        same = [section.special_id for section in sections] == [section.special_id for section in guarded]
        return sections if same else guarded

    def _render(self, messages: Sequence[Message]) -> str:
        chat = [dict(message) for message in messages]
        try:
            rendered: str = self._tokenizer.apply_chat_template(
                chat, chat_template=self._template, tokenize=False, add_generation_prompt=True
            )
        except Exception as error:
            raise PromptError(f"the chat template of {self._name!r} refuses these messages: {error}") from error
        return rendered

    def _check(self, messages: Sequence[Message]) -> None:
        if not self.exists:
            raise PromptError(
                f"the tokenizer of {self._name!r} has no chat template: give one with "
                f"MemberConfig(chat_template=...), or prompt with plain text through generate"
            )
        check_messages(messages)


def check_messages(messages: Sequence[Message]) -> None:
    """Refuse what is not a list of roles and texts.

    Raises:
        PromptError: No messages, a message without role or content, or one that is not a string.
    """
    if isinstance(messages, (str, Mapping)) or not isinstance(messages, Sequence):
        raise PromptError(f"messages must be a list of mappings with role and content; got {type(messages).__name__}")
    if not messages:
        raise PromptError('messages must hold at least one message; got none: give [{"role": "user", "content": ...}]')
    for index, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise PromptError(f"message {index} must be a mapping with role and content; got {type(message).__name__}")
        for key in ("role", "content"):
            if key not in message:
                raise PromptError(f"message {index} must have a {key}; got only {sorted(message)}")
            check_text(message[key], f"message {index}: {key}")


def check_text(text: object, what: str) -> None:
    """Refuse what is not a string of whole characters.

    Raises:
        PromptError: Not a string, or a lone surrogate (half of a UTF-16 pair), with its position.
    """
    if not isinstance(text, str):
        raise PromptError(f"{what} must be a string; got {type(text).__name__}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise PromptError(
            f"{what} must be valid Unicode text; got the lone surrogate U+{ord(text[error.start]):04X} at character "
            f"{error.start}: decode the text from its bytes again, or replace that character"
        ) from error


class SpecialFinder:
    """Finds a tokenizer's special tokens in text, as that tokenizer does, and hides them in text where asked."""

    def __init__(self, tokenizer: Any, special_ids: frozenset[int]) -> None:
        added = read_added_tokens(tokenizer)
        backend = read_backend(tokenizer)
        self._tokenizer = Tokenizer(BPE())
        if backend is not None and backend.normalizer is not None:
            self._tokenizer.normalizer = backend.normalizer
        self._tokenizer.add_tokens(list(added.values()))
        contents = {token_id: token.content for token_id, token in added.items() if token_id in special_ids}
        self._special_ids = {self._tokenizer.token_to_id(text): token_id for token_id, text in contents.items()}
        self._contents = sorted(contents.values(), key=len, reverse=True)
        self._heads = {text[:size] for text in self._contents for size in range(1, len(text))}
        self._tails = {text[size:] for text in self._contents for size in range(1, len(text))}

    def split(self, text: str) -> list[Section]:
        """The text as plain sections and special tokens, in order; empty sections are left out."""
        sections, position = [], 0
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        for token_id, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
            if token_id in self._special_ids:
                sections.append(Section(text[position:start]))
                sections.append(Section(text[start:end], self._special_ids[token_id]))
                position = end
        sections.append(Section(text[position:]))
        return [section for section in sections if section.text]

    def hide(self, messages: Sequence[Message]) -> tuple[str, list[dict[str, str]]] | None:
        """The messages with a mark inside everything that could become a special token, and that mark.

        None where nothing could: neither a special token's text, nor the beginning of one at a text's end or the end
        of one at its beginning (two neighbouring texts might then make one together).
        """
        texts = [text for message in messages for text in (message["role"], message["content"])]
        if not any(self._is_risky(text) for text in texts):
            return None
        mark = _unused_character(texts)
        return mark, [{key: self._guard(text, mark) for key, text in message.items()} for message in messages]

    def _is_risky(self, text: str) -> bool:
        return any(content in text for content in self._contents) or self._edges(text) != (0, 0)

    def _edges(self, text: str) -> tuple[int, int]:
        """How many characters at the text's beginning may end a special token, and at its end begin one."""
        sizes = range(min(len(text), max(map(len, self._contents), default=0)), 0, -1)
        tail = next((size for size in sizes if text[:size] in self._tails), 0)
        head = next((size for size in sizes if text[-size:] in self._heads), 0)
        return tail, head

    def _guard(self, text: str, mark: str) -> str:
        """The text with the mark inside every special token, and around what a neighbour could complete to one."""
        if not isinstance(text, str):
            return text
        tail, head = self._edges(text)
        for content in self._contents:
            text = text.replace(content, content[:1] + mark + content[1:])
        return (mark if tail else "") + text + (mark if head else "")


def _unused_character(texts: Iterable[str]) -> str:
    """A private-use character that occurs in none of the texts."""
    used = set().union(*texts)
    return next(chr(code) for code in range(0xF0000, 0xFFFFE) if chr(code) not in used)
