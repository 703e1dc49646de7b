"""Chat messages through a tokenizer's own template: the template's special tokens are special, a message's never."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import AddedToken, Tokenizer
from tokenizers.models import BPE

from deepen_llm.errors import PromptError
from deepen_llm.vocabulary.tokens import read_added_tokens, read_backend

Message = Mapping[str, str]

PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message.role | capitalize }}: {{ message.content }}\n\n{% endfor %}Assistant:"
)
"""Roles in words, for models that learnt no template: what `chat_template="plain"` stands for. Such a model may go on
with a message of the user, before which `stop=["\\nUser:"]` ends the answer."""


@dataclass(frozen=True, slots=True)
class Section:
    """One part of a rendered chat: a special token, or the plain text between two of them."""

    text: str
    special_id: int | None = None


class ChatTemplate:
    """One tokenizer's chat template, rendered for generation and split at its special tokens."""

    def __init__(self, tokenizer: Any, name: str, special_texts: dict[int, str], template: str | None = None) -> None:
        self._tokenizer = tokenizer
        self._name = name
        self._template = PLAIN_TEMPLATE if template == "plain" else template
        self._finder = SpecialFinder(tokenizer, special_texts)

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
        disguised, table = hidden
        guarded = [
            Section(section.text.translate(table), section.special_id)
            for section in self._finder.split(self._render(disguised))
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
                f"the tokenizer of {self._name!r} has no chat template: give one with MemberConfig(chat_template=...), "
                'where chat_template="plain" writes roles in words, or prompt with plain text through generate'
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

    def __init__(self, tokenizer: Any, special_texts: dict[int, str]) -> None:
        added = {token_id: AddedToken(text, special=True) for token_id, text in special_texts.items()}
        added |= read_added_tokens(tokenizer)
        backend = read_backend(tokenizer)
        self._tokenizer = Tokenizer(BPE())
        if backend is not None and backend.normalizer is not None:
            self._tokenizer.normalizer = backend.normalizer
        self._tokenizer.add_tokens(list(added.values()))
        self._special_ids = {self._tokenizer.token_to_id(text): token_id for token_id, text in special_texts.items()}
        self._contents = sorted(filter(None, special_texts.values()), key=len, reverse=True)
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

    def hide(self, messages: Sequence[Message]) -> tuple[list[dict[str, str]], dict[int, str]] | None:
        """The messages with whatever could become a special token disguised, and the table that undoes it.

        Disguised are the first character of every special token's text, and a text's edge where it could make a special
        token together with its neighbour. None where there is nothing of the kind.
        """
        texts = [text for message in messages for text in (message["role"], message["content"])]
        if not any(self._is_risky(text) for text in texts):
            return None
        originals = ["", *sorted({content[0] for content in self._contents})]
        masks = dict(zip(originals, _unused_characters(texts), strict=False))
        hidden = [{key: self._disguise(text, masks) for key, text in message.items()} for message in messages]
        return hidden, {ord(mask): original for original, mask in masks.items()}

    def _is_risky(self, text: str) -> bool:
        return any(content in text for content in self._contents) or any(self._edges(text))

    def _edges(self, text: str) -> tuple[bool, bool]:
        """Whether the text begins as a special token ends, and whether it ends as one begins."""
        sizes = range(1, min(len(text), len(self._contents[0]) if self._contents else 0) + 1)
        return any(text[:size] in self._tails for size in sizes), any(text[-size:] in self._heads for size in sizes)

    def _disguise(self, text: str, masks: dict[str, str]) -> str:
        if not isinstance(text, str):
            return text
        ends, begins = self._edges(text)
        for content in self._contents:
            text = text.replace(content, masks[content[0]] + content[1:])
        return (masks[""] if ends else "") + text + (masks[""] if begins else "")


def _unused_characters(texts: Iterable[str]) -> Iterator[str]:
    """Private-use characters that occur in none of the texts."""
    used = set().union(*texts)
    return (chr(code) for code in range(0xF0000, 0xFFFFE) if chr(code) not in used)
