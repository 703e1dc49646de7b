"""Chat messages through a tokenizer's own template: the template's special tokens are special, a message's never."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import final

from deepen_llm.errors import ConfigError, PromptError
from deepen_llm.vocabulary.chat_renderer import ChatRefusedError, ChatRenderer, as_blocks
from deepen_llm.vocabulary.chat_turn import ChatTurn
from deepen_llm.vocabulary.source import TokenizerSource
from deepen_llm.vocabulary.specials import Json, Section

Message = Mapping[str, str]

PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message.role | capitalize }}: {{ message.content }}\n\n{% endfor %}Assistant:"
)
"""Roles in words, for models that learnt no template: what `chat_template="plain"` stands for. Such a model may go on
with a message of the user, before which `stop=["\\nUser:"]` ends the answer."""

SET_VARIABLES = ("messages", "add_generation_prompt", "continue_final_message", "chat_template", "tokenize")
"""What the library says itself when it renders a chat."""
MAX_DEPTH = 100
"""Levels of a value for a template: the schemas of tools have some ten."""
MAX_SHOWN = 60
"""Characters of what came that an error repeats."""


@final
@dataclass(frozen=True, slots=True)
class RenderedChat:
    """A chat as a template writes it, up to where the answer begins."""

    sections: list[Section]
    """Plain text and special tokens, in order."""
    lead: str = ""
    """White space that the template has before an assistant's text and not yet here: it comes before the answer."""


@final
class ChatTemplate:
    """One tokenizer's chat template, rendered up to an answer and split at its special tokens."""

    def __init__(
        self, source: TokenizerSource, name: str, special_texts: Mapping[int, str], template: str | None = None
    ) -> None:
        """`template` stands in place of the tokenizer's own; "plain" is `PLAIN_TEMPLATE`."""
        self._source = source
        self._name = name
        self._template = PLAIN_TEMPLATE if template == "plain" else template
        self._finder = source.make_special_finder(special_texts)
        self._renderer = ChatRenderer(source, name, self._template)

    @property
    def exists(self) -> bool:
        """Whether there is a template at all."""
        return self._template is not None or self._source.has_chat_template

    @cached_property
    def turn(self) -> ChatTurn:
        """What the template puts around an assistant's message."""
        if not self.exists:
            return ChatTurn()
        return ChatTurn.find(self._renderer, self._finder)

    def render(
        self, messages: Sequence[Message], options: Mapping[str, Json] | None = None, timeout_s: float | None = None
    ) -> RenderedChat:
        """The chat up to where the answer begins. A last message of the assistant is gone on with.

        The template gets every content as a text or, where it refuses that or loses it, as blocks.

        Args:
            messages: Roles and texts.
            options: Further variables that the template sees, such as `enable_thinking`.
            timeout_s: Seconds that are left; None is as long as a template may take at all.

        Raises:
            PromptError: Messages that are not roles and texts, no template, or one that refuses the messages or loses
                one of them (`ChatRefusedError`) or takes too much time.
            ConfigError: Options that no template can get.
            MemberTimeoutError: The time was over.
        """
        self._check_exists()
        check_messages(messages)
        check_options(options)
        messages = [{"role": message["role"], "content": message["content"]} for message in messages]
        end_s = None if timeout_s is None else time.monotonic() + timeout_s
        renderer = replace(self._renderer, options=options, end_s=end_s, spent_s=[])
        try:
            return self._render(renderer, messages)
        except ChatRefusedError as refusal:
            with suppress(ChatRefusedError):
                return self._render(replace(renderer, form=as_blocks), messages)
            raise refusal from refusal.__cause__

    def _render(self, renderer: ChatRenderer, messages: Sequence[Message]) -> RenderedChat:
        text = renderer.render(messages)
        renderer.check_kept(messages)
        renderer.check_roles(messages)
        is_begun = messages[-1]["role"] == "assistant"
        lead = self.turn.lead if not is_begun and text.endswith(self.turn.opening) else ""
        return RenderedChat(self._split(text, renderer, messages), lead)

    def _split(self, text: str, renderer: ChatRenderer, messages: Sequence[Message]) -> list[Section]:
        """The text's sections; special tokens are those of the template, whatever messages and options spell."""
        sections = self._finder.split(text)
        hidden = self._finder.hide([messages, renderer.options])
        if hidden is None:
            return sections
        (disguised, options), table = hidden
        guarded = [
            Section(section.text.translate(table), section.special_id)
            for section in self._finder.split(renderer.render(disguised, options))
        ]
        same = [section.special_id for section in sections] == [section.special_id for section in guarded]
        return sections if same else guarded

    def _check_exists(self) -> None:
        if not self.exists:
            raise PromptError(
                f"the tokenizer of {self._name!r} has no chat template: give one with MemberConfig(chat_template=...), "
                'where chat_template="plain" writes roles in words, or prompt with plain text through generate'
            )


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
                raise PromptError(f"message {index} must have a {key}; got only {_shown(message)}")
            check_text(message[key], f"message {index}: {key}")


def _check_depth(value: Json, num_left: int) -> None:
    """Raise ValueError where a value holds others deeper than so many levels."""
    if num_left == 0:
        raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ():
        _check_depth(item, num_left - 1)


def _shown(message: Mapping[str, str]) -> str:
    """A message's keys, in a readable length."""
    return str(sorted(map(str, message)))[:MAX_SHOWN]


def check_options(options: Mapping[str, Json] | None) -> None:
    """Refuse what cannot be a variable of a chat template.

    Raises:
        ConfigError: Names that are no strings or that the library sets itself, or values that JSON cannot write.
    """
    if options is None:
        return
    if not isinstance(options, Mapping):
        raise ConfigError(f"chat_template_kwargs must be a mapping of names to values; got {type(options).__name__}")
    for name, value in options.items():
        if not isinstance(name, str) or name in SET_VARIABLES:
            raise ConfigError(
                f"chat_template_kwargs must name variables of a chat template, and not {', '.join(SET_VARIABLES)}; got "
                f"{str(name)[:MAX_SHOWN]!r}: leave it out"
            )
        try:
            json.dumps(value)
            _check_depth(value, MAX_DEPTH)
        except (TypeError, ValueError, RecursionError) as error:
            raise ConfigError(
                f"chat_template_kwargs must hold values that JSON can write; {name[:MAX_SHOWN]!r} does not: "
                f"{str(error)[:MAX_SHOWN]}"
            ) from error


def check_text(text: object, what: str) -> str:
    """The text, where it is a string of whole characters.

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
    return text
