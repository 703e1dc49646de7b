"""`ChatDeepen`: an ensemble as a LangChain chat model, each member under its own chat template."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Literal, Self

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models.base import LanguageModelInput
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import Runnable, RunnableConfig

from deepen_llm.config import SamplingParams
from deepen_llm.errors import ConfigError
from deepen_llm.frontends.options import STRUCTURE_NAMES
from deepen_llm.frontends.tools import ToolChoice, read_tools
from deepen_llm.structure import check_structure
from langchain_deepen.chat_answer import ChatAnswer
from langchain_deepen.chat_request import CHAT_NAMES, ChatRequest, make_request, split_options
from langchain_deepen.ensemble_model import EnsembleModel
from langchain_deepen.errors import in_langchains_terms, refusing_input
from langchain_deepen.messages import read_messages
from langchain_deepen.options import as_json_schema, read_call
from langchain_deepen.structured import (
    SchemaSource,
    call_parser,
    json_parser,
    read_schema,
    response_format,
    with_parser,
)
from langchain_deepen.tools import ToolSource, describe_tools

_FOR_TRACES = ("ls_structured_output_format", "structured_output_format")
"""Options that LangChain takes out before a call reaches the model."""


class ChatDeepen(EnsembleModel[AIMessage], BaseChatModel):
    """Two or more language models answering as one LangChain chat model.

    Messages are text from the system, the user, the assistant and tools; anything else is refused by name. Answers
    carry `usage_metadata`, and `model_name`, `finish_reason` ("stop", "length", or "tool_calls" for an answer that is
    calls), `share_fused` and the members' last `weights` in `response_metadata`. The calls of a batch run together in
    the engine.

    Example:
        ```python
        chat = ChatDeepen(model=["org/main-model", "org/other-model"], max_tokens=64)
        chat.invoke([("system", "Be brief."), ("human", "What is the capital of France?")])
        ```
    """

    chat_template_kwargs: dict[str, Any] | None = None
    """Further variables that every member's chat template sees, such as `enable_thinking`."""

    @property
    def _llm_type(self) -> str:
        return "deepen-chat"

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        return {**super()._identifying_params, "chat_template_kwargs": self.chat_template_kwargs}

    def _convert_input(self, model_input: LanguageModelInput) -> PromptValue:
        with refusing_input():
            return super()._convert_input(model_input)

    def batch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[AIMessage]:
        """Answer many inputs, as many at a time as the engine takes."""
        configs = self._side_by_side(inputs, config)
        return super().batch(inputs, configs, return_exceptions=return_exceptions, **kwargs)

    def bind_tools(
        self,
        tools: Sequence[ToolSource],
        *,
        tool_choice: ToolChoice = None,
        strict: bool | None = None,
        parallel_tool_calls: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """This model with tools that it may call. A call always parses, and its arguments are of the tool's schema.

        Args:
            tools: Tools, functions, pydantic or TypedDict classes, or dictionaries.
            tool_choice: "auto" or None leaves it to the models whether to call; "any", "required" or True forces a
                call; a tool's name, or its dictionary, forces a call of that tool; "none" forbids calls.
            strict: True makes a call give every argument, also those that have a default.
            parallel_tool_calls: True allows several calls in one answer; otherwise there is one at most.
            **kwargs: Further options of the calls.

        Raises:
            ConfigError: No tools, two different ones of one name, a choice that names none, or an option that does not
                exist.
            GrammarError: A tool whose arguments cannot be decoded by their schema; the message names it.
        """
        described = describe_tools(tools, strict=strict)
        read_tools(described, tool_choice, is_parallel=bool(parallel_tool_calls))
        read_call(
            {name: value for name, value in kwargs.items() if name not in (*CHAT_NAMES, *_FOR_TRACES)},
            owner=type(self).__name__,
        )
        given = {"tool_choice": tool_choice, "parallel_tool_calls": parallel_tool_calls}
        return self.bind(
            tools=described, **{name: value for name, value in given.items() if value is not None}, **kwargs
        )

    def with_structured_output(
        self,
        schema: SchemaSource | None = None,
        *,
        method: Literal["json_schema", "function_calling", "json_mode"] = "json_schema",
        include_raw: bool = False,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """A runnable whose answers are of a schema: they always parse, unless even the shortest exceeds `max_tokens`.

        Args:
            schema: A pydantic class (v2 or v1; answers are its instances), a TypedDict, or a JSON schema (answers are
                dictionaries).
            method: "json_schema" tells the models the schema in words and decodes by it; "function_calling" makes it a
                tool and forces its call; "json_mode" decodes by it, or without a schema to any JSON object, and leaves
                it to the prompt to say so.
            include_raw: Give a dictionary of `raw` (the message), `parsed` and `parsing_error`.
            strict: True makes every property required, also those that have a default.
            **kwargs: Further options of the calls.

        Raises:
            ConfigError: A method that does not exist, no schema where one is needed, or one that cannot be read.
            GrammarError: A schema that cannot be decoded by; the message names the part.
        """
        traced = {"kwargs": {"method": method, "strict": strict}, "schema": schema}
        if method not in ("json_schema", "function_calling", "json_mode"):
            raise ConfigError(
                f"method must be 'json_schema', 'function_calling' or 'json_mode'; got {method!r}: leave it out"
            )
        if schema is None:
            if method != "json_mode":
                raise ConfigError(f"method={method!r} needs a schema; got None: give one, or take method='json_mode'")
            model = self.bind(response_format=response_format(None), **kwargs)
            return with_parser(model, json_parser(None), include_raw=include_raw)
        if method == "function_calling":
            described = describe_tools([schema], strict=strict)
            name = described[0]["function"]["name"]
            bound = self.bind_tools(described, tool_choice="any", ls_structured_output_format=traced, **kwargs)
            return with_parser(bound, call_parser(schema, name), include_raw=include_raw)
        read = read_schema(schema, strict=strict)
        check_structure(SamplingParams(json_schema=read))
        told = response_format(read, is_told=method == "json_schema")
        model = self.bind(response_format=told, ls_structured_output_format=traced, **kwargs)
        return with_parser(model, json_parser(schema), include_raw=include_raw)

    def get_num_tokens_from_messages(
        self, messages: LanguageModelInput, tools: Sequence[ToolSource] | None = None
    ) -> int:
        """What messages take out of `ensemble.context_length`, in the member for which they take most.

        Counted are the chat templates too, and what the models are told about `tools`. Messages that take less fit into
        every member's context, which `trim_messages(..., token_counter=chat)` relies on.

        Raises:
            PromptError: A message that cannot be read.
            ConfigError: Tools that are none.
        """
        if self.custom_get_token_ids is not None:
            return super().get_num_tokens_from_messages(self._convert_input(messages).to_messages(), tools)
        told = read_tools(describe_tools(tools), None) if tools else None
        words = told.words if told is not None else ""
        read = read_messages(self._convert_input(messages).to_messages(), words)
        return self._open.meter.count_chat(read, chat_template_kwargs=self.chat_template_kwargs)

    def _prepare(
        self, messages: Sequence[BaseMessage], stop: list[str] | None, options: Mapping[str, Any]
    ) -> tuple[Self, ChatRequest]:
        """This model with the options of one call, and the request for the messages."""
        form, rest = split_options(options)
        if form.schema is not None:
            rest["json_schema"] = form.schema
        # The tools are nearer than a structure of the constructor, and take its place.
        model = self.model_copy(update=dict.fromkeys(STRUCTURE_NAMES)) if form.tools else self
        call = model._for_call(stop, rest)
        given = options.get("chat_template_kwargs")
        template_kwargs = self.chat_template_kwargs if given is None else given
        return call, make_request(messages, form, call._params(None, {}), stop, template_kwargs=template_kwargs)

    async def _aprepare(
        self, messages: Sequence[BaseMessage], stop: list[str] | None, options: Mapping[str, Any]
    ) -> tuple[Self, ChatRequest]:
        """`_prepare` without blocking the event loop while a `model` of the call is loaded."""
        if options.get("model") is None:
            return self._prepare(messages, stop, options)
        return await asyncio.to_thread(self._prepare, messages, stop, options)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002  (LangChain itself reports the tokens)
        **kwargs: Any,
    ) -> ChatResult:
        call, request = self._prepare(messages, stop, kwargs)
        with in_langchains_terms():
            answer = call.ensemble.chat(request.messages, request.params, chat_template_kwargs=request.template_kwargs)
        return ChatAnswer(request, call.model_name, call.ensemble.member_names).whole(answer)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002  (LangChain itself reports the tokens)
        **kwargs: Any,
    ) -> ChatResult:
        call, request = await self._aprepare(messages, stop, kwargs)
        with in_langchains_terms():
            answer = await call.ensemble.achat(
                request.messages, request.params, chat_template_kwargs=request.template_kwargs
            )
        return ChatAnswer(request, call.model_name, call.ensemble.member_names).whole(answer)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        call, request = self._prepare(messages, stop, kwargs)
        answer = ChatAnswer(request, call.model_name, call.ensemble.member_names)
        with (
            in_langchains_terms(),
            call.ensemble.stream_chat(
                request.messages, request.params, chat_template_kwargs=request.template_kwargs
            ) as stream,
        ):
            for piece in stream:
                for chunk in answer.pieces(piece):
                    if run_manager:
                        run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                    yield chunk

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        call, request = await self._aprepare(messages, stop, kwargs)
        answer = ChatAnswer(request, call.model_name, call.ensemble.member_names)
        with in_langchains_terms():
            async with aclosing(
                call.ensemble.astream_chat(
                    request.messages, request.params, chat_template_kwargs=request.template_kwargs
                )
            ) as stream:
                async for piece in stream:
                    for chunk in answer.pieces(piece):
                        if run_manager:
                            await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                        yield chunk

    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        """The cache's key for the options of a call: two schemas of one name are two, and patience is no option."""
        kwargs = {name: value for name, value in kwargs.items() if name not in ("timeout", "timeout_s")}
        if isinstance(kwargs.get("json_schema"), type):
            kwargs["json_schema"] = as_json_schema(kwargs["json_schema"])
        return super()._get_llm_string(stop, **kwargs)
