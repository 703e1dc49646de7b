"""Messages handed to a chat template in one of the forms that templates want, and what comes of it, checked."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

from deepen_llm.errors import MemberTimeoutError, PromptError
from deepen_llm.vocabulary.rendering import TemplateOverrunError
from deepen_llm.vocabulary.source import TokenizerSource
from deepen_llm.vocabulary.specials import Json, unused_characters, walk_texts

Form = Callable[[str], Json]
"""How a message's text is handed to a template."""

SPARE_CHARACTERS = 100_000
"""What a template may write besides the messages' texts."""
MOST_TIMES = 8
"""How often it may write those."""
MAX_CHAT_S = 3.0
"""For everything that is rendered of one chat after the first time, which may have to start a process."""
MAX_TOLD_APART = 1000
"""Beginnings of chats that are remembered."""
MAX_REASON = 500
"""Characters of a template's own words that an error repeats."""


class ChatRefusedError(PromptError):
    """A template that refuses messages, or loses the text of one: in another form it may take them."""


def as_text(text: str) -> Json:
    """What most templates want."""
    return text


def as_blocks(text: str) -> Json:
    """What templates want that walk a content block by block."""
    return [{"type": "text", "text": text}]


@final
@dataclass(frozen=True)
class ChatRenderer:
    """One member's template, and everything that it gets besides the messages."""

    source: TokenizerSource
    name: str
    """What errors call the member."""
    template: str | None = None
    options: Mapping[str, Json] | None = None
    form: Form = as_text
    end_s: float | None = None
    """The moment by `time.monotonic` at which the caller's time is over."""
    spent_s: list[float] = field(default_factory=list)
    """What each time took that a chat was rendered."""
    told_apart: set[tuple[str, ...]] = field(default_factory=set)
    """Roles of messages from the first on, of which it is known that the template tells the last but one from the
    assistant's: in a chat that goes on it is not asked again."""

    def render(self, messages: Sequence[Mapping[str, str]], options: Mapping[str, Json] | None = None) -> str:
        """The chat up to where the answer begins: within the last message, where that is the assistant's.

        `options` stand in place of the renderer's own.

        Raises:
            ChatRefusedError: The template refuses the messages, or does not write one that is to be gone on with.
            PromptError: It takes too much time, or what it writes is not text.
            MemberTimeoutError: The caller's time was over.
        """
        options = self.options or {} if options is None else options
        if messages[-1]["role"] != "assistant":
            return self.write(messages, {**options, "add_generation_prompt": True})
        end = next(unused_characters(walk_texts([messages, options])))
        begun = {**messages[-1], "content": messages[-1]["content"] + end}
        whole = self.write([*messages[:-1], begun], {**options, "add_generation_prompt": False})
        text, found, _ = whole.rpartition(end)
        if not found:
            raise ChatRefusedError(
                f"the chat template of {self.name!r} must write the assistant's message that is to be gone on with; it "
                "does not: end with a message of the user"
            )
        return text

    def write(self, messages: Sequence[Mapping[str, str]], variables: Mapping[str, Json]) -> str:
        """What the template makes of all messages. Raises what `render` does."""
        chat = [{**message, "content": self.form(message["content"])} for message in messages]
        size = sum(map(len, walk_texts([chat, variables])))
        begin_s = time.monotonic()
        try:
            text = self.source.render_chat(
                chat,
                self.template,
                variables,
                max_characters=SPARE_CHARACTERS + MOST_TIMES * size,
                timeout_s=self._left_s(),
            )
        except TemplateOverrunError as error:
            raise PromptError(f"the chat template of {self.name!r} must come to an end; {error}: mend it") from error
        except TimeoutError as error:
            raise MemberTimeoutError(
                f"the chat template of {self.name!r} was still being rendered when the time was over: raise the timeout"
            ) from error
        except Exception as error:
            raise ChatRefusedError(
                f"the chat template of {self.name!r} refuses these messages: {_cut(error)}"
            ) from error
        self.spent_s.append(time.monotonic() - begin_s)
        self._check(text)
        return text

    def check_kept(self, messages: Sequence[Mapping[str, str]]) -> None:
        """Refuse what the template makes of the messages where it leaves out anything but an assistant's text.

        Old thoughts of an assistant are left out on purpose. What people wrote never may be.

        Raises:
            ChatRefusedError: It does, with the message's number.
        """
        marks = unused_characters(walk_texts([messages, self.options]))
        marked, marks_by_index = [], {}
        for index, message in enumerate(messages):
            if message["role"] != "assistant" and message["content"].strip():
                mark = marks_by_index[index] = next(marks)
                message = {**message, "content": mark + message["content"] + mark}
            marked.append(message)
        if not marks_by_index:
            return
        text = self.render(marked)
        for index, mark in marks_by_index.items():
            if text.count(mark) < 2:
                raise ChatRefusedError(
                    f"the chat template of {self.name!r} must write every message; it leaves out text of message "
                    f"{index}, role {messages[index]['role'][:40]!r}: use a role that it knows, or give the member "
                    "another template with MemberConfig(chat_template=...)"
                )

    def check_roles(self, messages: Sequence[Mapping[str, str]]) -> None:
        """Refuse what the template makes of the messages where it takes another's message for the assistant's.

        Raises:
            ChatRefusedError: It does, with the message's number: its words would be the model's own.
        """
        roles = tuple(message["role"] for message in messages)
        foreign = [index for index, role in enumerate(roles) if role not in ("user", "assistant")]
        unknown = [index for index in foreign if self.options or roles[: index + 2] not in self.told_apart]
        variables = {**(self.options or {}), "add_generation_prompt": False}
        text = self.write(messages, variables) if unknown else ""
        for index in unknown:
            taken = [*messages[:index], {**messages[index], "role": "assistant"}, *messages[index + 1 :]]
            if self._writes(taken, variables, text):
                raise ChatRefusedError(
                    f"the chat template of {self.name!r} must tell message {index}, role {roles[index][:40]!r}, from "
                    "the assistant's; it does not: use a role that it knows"
                )
            if not self.options and len(self.told_apart) < MAX_TOLD_APART:
                self.told_apart.add(roles[: index + 2])

    def _writes(self, messages: Sequence[Mapping[str, str]], variables: Mapping[str, Json], text: str) -> bool:
        """Whether the template makes this text of the messages."""
        try:
            return self.write(messages, variables) == text
        except ChatRefusedError:
            return False

    def _left_s(self) -> float | None:
        return None if self.end_s is None else max(self.end_s - time.monotonic(), 0.0)

    def _check(self, text: object) -> None:
        if (spent_s := sum(self.spent_s[1:])) > MAX_CHAT_S:
            raise PromptError(
                f"the chat template of {self.name!r} must come to an end; one chat took {spent_s:.1f} s of it: mend it"
            )
        if not isinstance(text, str):
            raise PromptError(f"the chat template of {self.name!r} must write a text; got {type(text).__name__}")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise PromptError(
                f"the chat template of {self.name!r} must write valid Unicode text; got half of a character, "
                f"U+{ord(text[error.start]):04X}, at character {error.start}: mend it, or what it was given"
            ) from error


def _cut(error: Exception) -> str:
    """What an error says, in a readable length."""
    said = str(error) or type(error).__name__
    return said if len(said) <= MAX_REASON else f"{said[:MAX_REASON]}..."
