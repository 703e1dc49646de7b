"""`DeepenStructuredLLM`: an LLM whose answers are objects of one pydantic class."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import aclosing, closing
from typing import Any, cast

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse, MessageRole
from llama_index.core.bridge.pydantic import BaseModel
from llama_index.core.llms.structured_llm import StructuredLLM
from llama_index.core.prompts import BasePromptTemplate, ChatPromptTemplate, PromptTemplate


class DeepenStructuredLLM(StructuredLLM):
    """What `DeepenLLM.as_structured_llm` returns.

    Text is the object's JSON, by the aliases of its fields, and `raw` the object; in streams, the fields so far, and
    the whole object last. Unlike LlamaIndex's own, it also streams completions, and a call is one pair of events, that
    of the LLM within. The methods raise what `structured_predict` raises.
    """

    @classmethod
    def class_name(cls) -> str:
        """The name under which LlamaIndex records this LLM."""
        return "DeepenStructuredLLM"

    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """The object that answers the messages."""
        return _chat_response(self._predict(ChatPromptTemplate(messages), kwargs))

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """`chat` for an event loop."""
        return _chat_response(await self._apredict(ChatPromptTemplate(messages), kwargs))

    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> Generator[ChatResponse, None, None]:
        """`chat` in pieces."""
        with closing(self._stream(ChatPromptTemplate(messages), kwargs)) as objects:
            for output in objects:
                yield _chat_response(output)

    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> AsyncGenerator[ChatResponse, None]:
        """`stream_chat` for an event loop: await it, then iterate."""
        objects = await self._astream(ChatPromptTemplate(messages), kwargs)

        async def responses() -> AsyncGenerator[ChatResponse, None]:
            async with aclosing(objects):
                async for output in objects:
                    yield _chat_response(output)

        return responses()

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:  # noqa: ARG002
        """The object that answers the prompt. The LLM within puts the prompt into its form, whatever `formatted` is."""
        return _completion_response(self._predict(PromptTemplate(prompt), kwargs))

    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:  # noqa: ARG002
        """`complete` for an event loop."""
        return _completion_response(await self._apredict(PromptTemplate(prompt), kwargs))

    def stream_complete(
        self,
        prompt: str,
        formatted: bool = False,  # noqa: ARG002
        **kwargs: Any,
    ) -> Generator[CompletionResponse, None, None]:
        """`complete` in pieces."""
        with closing(self._stream(PromptTemplate(prompt), kwargs)) as objects:
            for output in objects:
                yield _completion_response(output)

    async def astream_complete(
        self,
        prompt: str,
        formatted: bool = False,  # noqa: ARG002
        **kwargs: Any,
    ) -> AsyncGenerator[CompletionResponse, None]:
        """`stream_complete` for an event loop: await it, then iterate."""
        objects = await self._astream(PromptTemplate(prompt), kwargs)

        async def responses() -> AsyncGenerator[CompletionResponse, None]:
            async with aclosing(objects):
                async for output in objects:
                    yield _completion_response(output)

        return responses()

    def _predict(self, prompt: BasePromptTemplate, options: dict[str, Any]) -> BaseModel:
        output = self.llm.structured_predict(self.output_cls, cast(PromptTemplate, prompt), llm_kwargs=options)
        return cast(BaseModel, output)

    async def _apredict(self, prompt: BasePromptTemplate, options: dict[str, Any]) -> BaseModel:
        output = await self.llm.astructured_predict(self.output_cls, cast(PromptTemplate, prompt), llm_kwargs=options)
        return cast(BaseModel, output)

    def _stream(self, prompt: BasePromptTemplate, options: dict[str, Any]) -> Generator[BaseModel, None, None]:
        return self.llm.stream_structured_predict(self.output_cls, cast(PromptTemplate, prompt), llm_kwargs=options)

    async def _astream(self, prompt: BasePromptTemplate, options: dict[str, Any]) -> AsyncGenerator[BaseModel, None]:
        return await self.llm.astream_structured_predict(
            self.output_cls, cast(PromptTemplate, prompt), llm_kwargs=options
        )


def _chat_response(output: BaseModel) -> ChatResponse:
    message = ChatMessage(role=MessageRole.ASSISTANT, content=output.model_dump_json(by_alias=True))
    return ChatResponse(message=message, raw=output)


def _completion_response(output: BaseModel) -> CompletionResponse:
    return CompletionResponse(text=output.model_dump_json(by_alias=True), raw=output)
