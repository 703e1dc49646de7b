"""Chat messages through a tokenizer's own template: the template's special tokens are special, a message's never."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from deepen_llm.errors import PromptError
from deepen_llm.vocabulary.source import TokenizerSource
from deepen_llm.vocabulary.specials import Section

Message = Mapping[str, str]

PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message.role | capitalize }}: {{ message.content }}\n\n{% endfor %}Assistant:"
)
"""Roles in words, for models that learnt no template: what `chat_template="plain"` stands for. Such a model may go on
with a message of the user, before which `stop=["\\nUser:"]` ends the answer."""


class ChatTemplate:
    """One tokenizer's chat template, rendered for generation and split at its special tokens."""

    def __init__(
        self, source: TokenizerSource, name: str, special_texts: Mapping[int, str], template: str | None = None
    ) -> None:
        """`template` stands in place of the tokenizer's own; "plain" is `PLAIN_TEMPLATE`."""
        self._source = source
        self._name = name
        self._template = PLAIN_TEMPLATE if template == "plain" else template
        self._finder = source.make_special_finder(special_texts)

    @property
    def exists(self) -> bool:
        """Whether there is a template at all."""
        return self._template is not None or self._source.has_chat_template

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
        try:
            return self._source.render_chat(messages, self._template)
        except Exception as error:
            raise PromptError(f"the chat template of {self._name!r} refuses these messages: {error}") from error

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
