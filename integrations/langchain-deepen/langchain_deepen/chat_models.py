"""`ChatDeepen`: an ensemble as a LangChain chat model, each member under its own chat template."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, closing
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models.base import LanguageModelInput
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableConfig

from deepen_llm.results import Chunk
from deepen_llm.results import Generation as Answer
from langchain_deepen.ensemble_model import EnsembleModel
from langchain_deepen.generation_info import finish_info, token_info, usage_metadata
from langchain_deepen.messages import read_messages


class ChatDeepen(EnsembleModel[AIMessage], BaseChatModel):
    """Two or more language models answering as one LangChain chat model.

    Messages are text from the system, the user and the assistant; anything else is refused by name. Answers carry
    `usage_metadata`, and `model_name` and `finish_reason` in `response_metadata`. The calls of a batch run together
    in the engine.

    Example:
        ```python
        chat = ChatDeepen(model=["org/main-model", "org/other-model"], max_tokens=64)
        chat.invoke([("system", "Be brief."), ("human", "What is the capital of France?")])
        ```
    """

    @property
    def _llm_type(self) -> str:
        return "deepen-chat"

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

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002  (LangChain itself reports the tokens)
        **kwargs: Any,
    ) -> ChatResult:
        return self._result(self.ensemble.chat(read_messages(messages), self._params(stop, kwargs)))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002  (LangChain itself reports the tokens)
        **kwargs: Any,
    ) -> ChatResult:
        return self._result(await self.ensemble.achat(read_messages(messages), self._params(stop, kwargs)))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        with closing(self.ensemble.stream_chat(read_messages(messages), self._params(stop, kwargs))) as stream:
            for piece in stream:
                chunk = self._chunk(piece)
                if run_manager:
                    run_manager.on_llm_new_token(piece.text, chunk=chunk)
                yield chunk

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        opened = self.ensemble.astream_chat(read_messages(messages), self._params(stop, kwargs))
        async with aclosing(opened) as stream:
            async for piece in stream:
                chunk = self._chunk(piece)
                if run_manager:
                    await run_manager.on_llm_new_token(piece.text, chunk=chunk)
                yield chunk

    def _result(self, answer: Answer) -> ChatResult:
        """The answer as one message."""
        info = {**token_info(answer), **finish_info(answer)}
        message = AIMessage(
            content=answer.text,
            response_metadata={"model_name": self.model_name, "model_provider": "deepen", **info},
            usage_metadata=usage_metadata(answer.usage),
        )
        return ChatResult(generations=[ChatGeneration(message=message, generation_info=info)])

    def _chunk(self, piece: Chunk) -> ChatGenerationChunk:
        """One piece of a stream; the last one alone says how the answer ended, who gave it and what it took."""
        is_last = piece.finish_reason is not None
        message = AIMessageChunk(
            content=piece.text,
            response_metadata={"model_name": self.model_name, "model_provider": "deepen"} if is_last else {},
            usage_metadata=usage_metadata(piece.usage) if piece.usage else None,
            chunk_position="last" if is_last else None,
        )
        return ChatGenerationChunk(message=message, generation_info={**token_info(piece), **finish_info(piece)} or None)
