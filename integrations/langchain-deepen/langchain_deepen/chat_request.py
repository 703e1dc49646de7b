"""One request to the chat model: what the members read, how the answer is decoded, how it is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import BaseMessage

from deepen_llm.config import SamplingParams
from deepen_llm.errors import ConfigError
from deepen_llm.frontends.options import STRUCTURE_NAMES
from deepen_llm.frontends.tools import CallReader, ToolSet, read_response_format, read_tools
from langchain_deepen.messages import read_messages
from langchain_deepen.tools import check_list

CHAT_NAMES = ("tools", "tool_choice", "parallel_tool_calls", "response_format", "chat_template_kwargs")
"""Options of a call that only the chat model has."""


@dataclass(frozen=True)
class Form:
    """What an answer has to look like, beside what the options of the engine say."""

    tools: ToolSet | None = None
    schema: dict[str, Any] | None = None
    words: str = ""
    """What the models are told about it, as the system."""


@dataclass(frozen=True)
class ChatRequest:
    """What goes to the ensemble, and who reads the answer."""

    messages: list[dict[str, str]]
    params: SamplingParams
    has_tools: bool
    stop: tuple[str, ...] = ()
    """Where a text that is no call is cut."""
    template_kwargs: Mapping[str, Any] | None = None
    """Further variables that the chat templates see."""

    def reader(self) -> CallReader | None:
        """A reader for one answer that may be a call; None where answers are text."""
        return CallReader(self.stop) if self.has_tools else None


def split_options(options: Mapping[str, Any]) -> tuple[Form, dict[str, Any]]:
    """The form of the answer, and the options that remain.

    Raises:
        ConfigError: Two forms in one call, a choice of tools without tools, or what `read_tools` refuses.
        GrammarError: A tool whose arguments cannot be decoded by their schema.
    """
    chat = {name: options[name] for name in CHAT_NAMES if options.get(name) is not None}
    rest = {name: value for name, value in options.items() if name not in CHAT_NAMES}
    forms = [name for name in ("tools", "response_format", *STRUCTURE_NAMES) if {**chat, **rest}.get(name) is not None]
    if len(forms) > 1:
        raise ConfigError(f"an answer has one structure; got {' and '.join(forms)}: give one of them")
    if "response_format" in chat:
        schema, words = read_response_format(chat["response_format"])
        return Form(schema=schema, words=words if chat["response_format"].get("is_told", True) else ""), rest
    is_parallel = bool(chat.get("parallel_tool_calls"))
    check_list(chat.get("tools", ()))
    tools = read_tools(chat.get("tools", ()), chat.get("tool_choice"), is_parallel=is_parallel)
    if tools is None:
        return Form(), rest
    tools.check_options(rest)
    return Form(tools=tools, words=tools.words), rest


def make_request(
    messages: Sequence[BaseMessage],
    form: Form,
    params: SamplingParams,
    stop: Sequence[str] | None,
    *,
    template_kwargs: Mapping[str, Any] | None = None,
) -> ChatRequest:
    """The request for messages.

    Args:
        messages: The conversation.
        form: What the answer looks like.
        params: The engine's parameters; tools take the place of their structure.
        stop: The call's own stop strings, if it has any.
        template_kwargs: Further variables that the chat templates see.

    Raises:
        ConfigError: Stop strings in a call that has to be a call of a tool.
        PromptError: A message that cannot be read.
    """
    told = read_messages(messages, form.words)
    if form.tools is None:
        return ChatRequest(told, params, has_tools=False, template_kwargs=template_kwargs)
    form.tools.check_options({"stop": stop})
    return ChatRequest(told, form.tools.hold(params), True, params.stop, template_kwargs)
