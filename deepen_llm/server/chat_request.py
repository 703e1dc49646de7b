"""A request for a reply to messages, and what the ensemble is asked for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

from deepen_llm.config import SamplingParams
from deepen_llm.ensemble import Ensemble
from deepen_llm.frontends.tools import CallReader, ToolSet, read_response_format, read_tools
from deepen_llm.server.messages import read_messages
from deepen_llm.server.refusals import RefusedError, naming
from deepen_llm.server.request_fields import RequestFields
from deepen_llm.server.settings import ServerSettings

MOST_TOP_LOGPROBS = 1000


@final
@dataclass(frozen=True, slots=True)
class ChatPlan:
    """What goes to the ensemble, and how its answer is read."""

    messages: list[dict[str, str]]
    params: SamplingParams
    template_kwargs: Mapping[str, Any] | None = None
    has_tools: bool = False
    stop: tuple[str, ...] = ()
    """Where a text that is no call is cut."""

    def reader(self) -> CallReader | None:
        """A reader for one answer that may be calls; None where answers are text."""
        return CallReader(self.stop) if self.has_tools else None


class ChatRequest(RequestFields):
    """The body of `/v1/chat/completions`."""

    neutral: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "store": (False,),
        "modalities": (["text"],),
        "functions": ([],),
        "add_generation_prompt": (True,),
        "continue_final_message": (False,),
    }
    known: ClassVar[Mapping[str, str]] = {
        "functions": "give tools",
        "function_call": "give tool_choice",
        "reasoning_effort": "chat_template_kwargs reach the models' own templates, such as {'enable_thinking': false}",
    }

    messages: list[Any]
    """The conversation; a last message of the assistant is gone on with."""
    max_tokens: int | None = None
    """As many as the context holds where it is not given."""
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    response_format: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    """Whether an answer may hold several calls; false where it is not given, for the sake of small models."""
    chat_template_kwargs: dict[str, Any] | None = None
    """Further variables that every member's chat template sees."""

    def plan(self, ensemble: Ensemble, settings: ServerSettings) -> ChatPlan:
        """What to ask of an ensemble, within the limits of a server. Compiles structures: not for an event loop.

        Raises:
            RefusedError: Something that cannot be done; it names the field.
        """
        self.check_fields()
        schema, words = self._read_format()
        tools = self._read_tools()
        changes = {
            "max_new_tokens": self._limit(ensemble.context_length, settings.max_tokens),
            "logprobs": self._num_logprobs(),
            "json_schema": schema,
        }
        params = self.sampling_params(settings.timeout_s, ensemble.member_names, **changes)
        if tools is None:
            return ChatPlan(read_messages(self.messages, words), params, self.chat_template_kwargs)
        with naming("tools"):
            tools.check_options(params.model_dump())
            held = tools.hold(params)
        messages = read_messages(self.messages, tools.words)
        return ChatPlan(messages, held, self.chat_template_kwargs, has_tools=True, stop=params.stop)

    def _limit(self, context_length: int, most: int | None) -> int:
        given = [name for name in ("max_tokens", "max_completion_tokens") if getattr(self, name) is not None]
        if len(given) == 2 and self.max_tokens != self.max_completion_tokens:
            raise RefusedError("max_tokens and max_completion_tokens are one limit: give one", param="max_tokens")
        asked: int | None = getattr(self, given[0]) if given else None
        self.check_max_tokens(asked, most)
        return min(most or context_length, context_length) if asked is None else asked

    def _num_logprobs(self) -> int | None:
        if self.top_logprobs and not self.logprobs:
            raise RefusedError("top_logprobs go with logprobs=true: set it, or leave them out", param="top_logprobs")
        if self.top_logprobs is not None and not 0 <= self.top_logprobs <= MOST_TOP_LOGPROBS:
            message = f"top_logprobs must be from 0 to {MOST_TOP_LOGPROBS}; got {self.top_logprobs}"
            raise RefusedError(message, param="top_logprobs")
        return (self.top_logprobs or 0) if self.logprobs else None

    def _read_format(self) -> tuple[dict[str, Any] | None, str]:
        if self.response_format is None:
            return None, ""
        with naming("response_format"):
            schema, words = read_response_format(self.response_format)
        if schema is not None and self.tools:
            raise RefusedError("an answer has one form: give tools or response_format", param="response_format")
        return schema, words

    def _read_tools(self) -> ToolSet | None:
        with naming("tools"):
            return read_tools(self.tools or (), self.tool_choice, is_parallel=bool(self.parallel_tool_calls))
