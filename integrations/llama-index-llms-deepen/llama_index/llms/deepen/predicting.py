"""Prediction from prompt templates: as text, as what a prompt's parser reads, or as a pydantic object.

LlamaIndex's own way to an object is to ask for JSON and to parse what comes. Here the answer is decoded by the object's
JSON schema, so it is one from any model, at any temperature.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import aclosing, closing
from typing import Any, cast

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse
from llama_index.core.bridge.pydantic import BaseModel
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]
from llama_index.core.instrumentation.events.llm import (
    LLMPredictEndEvent,
    LLMPredictStartEvent,
    LLMStructuredPredictEndEvent,
    LLMStructuredPredictInProgressEvent,
    LLMStructuredPredictStartEvent,
)
from llama_index.core.llms.custom import CustomLLM
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.structured_llm import StructuredLLM
from llama_index.core.program.utils import FlexibleModel
from llama_index.core.prompts import BasePromptTemplate

from deepen_llm.config.model_schema import read_model_schema
from deepen_llm.errors import ConfigError
from deepen_llm.frontends.tools import ask_for
from llama_index.llms.deepen.messages import with_request
from llama_index.llms.deepen.objects import Model, PartialReader, check_whole
from llama_index.llms.deepen.parsers import schema_for

_dispatcher = get_dispatcher(__name__)
_Response = ChatResponse | CompletionResponse


class PredictingLLM(CustomLLM, FunctionCallingLLM):
    """An LLM whose `chat` and `complete` take a `json_schema`; everything here is built on that.

    Abstract. A chat model is asked with messages, any other with a text.
    """

    max_tokens: int

    def predict(self, prompt: BasePromptTemplate, **prompt_args: Any) -> str:
        """The answer to a filled-in prompt. Where its parser is one of LlamaIndex's own, JSON that the parser reads.

        Raises:
            ConfigError: Such JSON did not fit into `max_tokens`.
            DeepenError: The prompt cannot be used, or a member failed.
        """
        _dispatcher.event(LLMPredictStartEvent(template=prompt, template_args=prompt_args))
        self._log_template_data(prompt, **prompt_args)
        options = self._parser_options(prompt, prompt_args)
        response = self._answer(self._fill(prompt, prompt_args), options)
        return self._predicted(response, options)

    async def apredict(self, prompt: BasePromptTemplate, **prompt_args: Any) -> str:
        """`predict` for an event loop."""
        _dispatcher.event(LLMPredictStartEvent(template=prompt, template_args=prompt_args))
        self._log_template_data(prompt, **prompt_args)
        options = self._parser_options(prompt, prompt_args)
        response = await self._aanswer(self._fill(prompt, prompt_args), options)
        return self._predicted(response, options)

    def structured_predict(
        self,
        output_cls: type[Model],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Model:
        """An object of `output_cls`, decoded by its JSON schema. `llm_kwargs` are options of the call.

        Raises:
            ConfigError: It did not fit into `max_tokens`, or an option cannot be used.
            GrammarError: The schema has a part that decoding cannot follow.
            pydantic.ValidationError: A validator of the class refuses values that its schema allows.
        """
        _dispatcher.event(self._structured_start(output_cls, prompt, prompt_args))
        options = _structured_options(output_cls, llm_kwargs)
        response = self._answer(self._fill(prompt, prompt_args, ask_for(options["json_schema"])), options)
        return self._finished(response, options, PartialReader(output_cls), output_cls)

    async def astructured_predict(
        self,
        output_cls: type[Model],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Model:
        """`structured_predict` for an event loop; cancelling the task stops the work."""
        _dispatcher.event(self._structured_start(output_cls, prompt, prompt_args))
        options = _structured_options(output_cls, llm_kwargs)
        response = await self._aanswer(self._fill(prompt, prompt_args, ask_for(options["json_schema"])), options)
        return self._finished(response, options, PartialReader(output_cls), output_cls)

    def stream_structured_predict(
        self,
        output_cls: type[Model],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Generator[Model | FlexibleModel, None, None]:
        """`structured_predict` in pieces: objects with the fields so far, the others None, and last the whole one.

        Raises at the piece where it happens what `structured_predict` raises. Closing the stream stops the work.
        """
        _dispatcher.event(self._structured_start(output_cls, prompt, prompt_args))
        options, reader, response = _structured_options(output_cls, llm_kwargs), PartialReader(output_cls), None
        with closing(self._stream(self._fill(prompt, prompt_args, ask_for(options["json_schema"])), options)) as stream:
            for response in stream:
                if (partial := reader.read(_text(response))) is not None:
                    _dispatcher.event(LLMStructuredPredictInProgressEvent(output=partial))
                    yield partial
        yield self._finished(response, options, reader, output_cls)

    async def astream_structured_predict(
        self,
        output_cls: type[Model],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> AsyncGenerator[Model | FlexibleModel, None]:
        """`stream_structured_predict` for an event loop: await it, then iterate."""
        options, reader = _structured_options(output_cls, llm_kwargs), PartialReader(output_cls)
        content = self._fill(prompt, prompt_args, ask_for(options["json_schema"]))

        async def objects() -> AsyncGenerator[Model | FlexibleModel, None]:
            _dispatcher.event(self._structured_start(output_cls, prompt, prompt_args))
            response = None
            async with aclosing(await self._astream(content, options)) as stream:
                async for response in stream:
                    if (partial := reader.read(_text(response))) is not None:
                        _dispatcher.event(LLMStructuredPredictInProgressEvent(output=partial))
                        yield partial
            yield self._finished(response, options, reader, output_cls)

        return objects()

    def as_structured_llm(self, output_cls: type[BaseModel], **kwargs: Any) -> StructuredLLM:
        """An LLM whose answers are objects of `output_cls`: as JSON in the text, as the object in `raw`."""
        from llama_index.llms.deepen.structured_llm import DeepenStructuredLLM

        return DeepenStructuredLLM(llm=self, output_cls=output_cls, **kwargs)

    def _fill(
        self, prompt: BasePromptTemplate, prompt_args: Mapping[str, Any], words: str = ""
    ) -> list[ChatMessage] | str:
        """What the models read: messages for a chat model, else a text; `words` come last."""
        if self.metadata.is_chat_model:
            messages = self._get_messages(prompt, **prompt_args)
            return with_request(messages, words) if words else messages
        text = self._get_prompt(prompt, **prompt_args)
        return f"{text}\n{words}\n" if words else text

    def _answer(self, content: list[ChatMessage] | str, options: Mapping[str, Any]) -> _Response:
        if isinstance(content, str):
            return cast(_Response, self.complete(content, formatted=True, **options))
        return cast(_Response, self.chat(content, **options))

    async def _aanswer(self, content: list[ChatMessage] | str, options: Mapping[str, Any]) -> _Response:
        if isinstance(content, str):
            return cast(_Response, await self.acomplete(content, formatted=True, **options))
        return cast(_Response, await self.achat(content, **options))

    def _stream(self, content: list[ChatMessage] | str, options: Mapping[str, Any]) -> Generator[_Response, None, None]:
        if isinstance(content, str):
            return cast(Generator[_Response, None, None], self.stream_complete(content, formatted=True, **options))
        return cast(Generator[_Response, None, None], self.stream_chat(content, **options))

    async def _astream(
        self, content: list[ChatMessage] | str, options: Mapping[str, Any]
    ) -> AsyncGenerator[_Response, None]:
        if isinstance(content, str):
            stream = await self.astream_complete(content, formatted=True, **options)
            return cast(AsyncGenerator[_Response, None], stream)
        return cast(AsyncGenerator[_Response, None], await self.astream_chat(content, **options))

    def _parser_options(self, prompt: BasePromptTemplate, prompt_args: Mapping[str, Any]) -> dict[str, Any]:
        """The schema that the parser of the prompt, or of this LLM, reads."""
        schema = schema_for(prompt.output_parser or self.output_parser, prompt, {**prompt.kwargs, **prompt_args})
        return {} if schema is None else {"json_schema": schema}

    def _predicted(self, response: _Response, options: Mapping[str, Any]) -> str:
        if options:
            check_whole("JSON text for the prompt's output parser", response.raw, self.max_tokens)
        output = self._parse_output(_text(response))
        _dispatcher.event(LLMPredictEndEvent(output=output))
        return output

    @staticmethod
    def _structured_start(
        output_cls: type[BaseModel], prompt: BasePromptTemplate, prompt_args: dict[str, Any]
    ) -> LLMStructuredPredictStartEvent:
        return LLMStructuredPredictStartEvent(output_cls=output_cls, template=prompt, template_args=prompt_args)

    def _finished(
        self,
        response: _Response | None,
        options: Mapping[str, Any],
        reader: PartialReader[Model],
        output_cls: type[Model],
    ) -> Model:
        """The object of a whole answer."""
        max_tokens = options.get("max_tokens") or options.get("max_new_tokens") or self.max_tokens
        check_whole(output_cls.__name__, response and response.raw, max_tokens)
        output = reader.read_whole(_text(response))
        _dispatcher.event(LLMStructuredPredictEndEvent(output=output))
        return output


def _structured_options(output_cls: type[BaseModel], given: Mapping[str, Any] | None) -> dict[str, Any]:
    """The options of a call whose answer is an object."""
    if not (isinstance(output_cls, type) and issubclass(output_cls, BaseModel)):
        raise ConfigError(f"output_cls must be a pydantic class; got {output_cls!r:.100}: write a class of BaseModel")
    if given is not None and not (isinstance(given, Mapping) and all(isinstance(name, str) for name in given)):
        raise ConfigError(f"llm_kwargs must be a dictionary of options by name; got {given!r:.100}")
    given = dict(given or {})
    if given.get("stop"):
        raise ConfigError(
            f"an object is whole or nothing; got stop={given['stop']!r}, which could cut it: leave it out"
        )
    return {**given, "json_schema": read_model_schema(output_cls)}


def _text(response: _Response | None) -> str:
    if isinstance(response, ChatResponse):
        return response.message.content or ""
    return response.text if response is not None else ""
