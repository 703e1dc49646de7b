"""`DeepenLLM`: an ensemble as a LangChain LLM, text in and text out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from functools import reduce
from operator import add
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun, Callbacks
from langchain_core.language_models.base import LanguageModelInput
from langchain_core.language_models.llms import BaseLLM
from langchain_core.outputs import Generation, GenerationChunk, LLMResult
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import Runnable, RunnableConfig

from deepen_llm.results import Chunk
from deepen_llm.results import Generation as Answer
from langchain_deepen.ensemble_model import EnsembleModel
from langchain_deepen.errors import in_langchains_terms, refusing_input
from langchain_deepen.generation_info import finish_info, token_info, token_usage, usage_info

_RUN_SETTINGS = ("tags", "metadata", "run_name", "run_id")


class DeepenLLM(EnsembleModel[str], BaseLLM):
    """Two or more language models answering as one LangChain LLM.

    `invoke`, `batch` (one engine call), `stream` and their async twins run on one engine. Each prompt's
    `generation_info` holds `finish_reason`, `token_usage` and the members' last `weights`.

    With `streaming=True`, or `return_exceptions=True`, each input of a batch is a run of its own: tokens reach the
    callbacks of their own run, and a prompt that fails fails alone. The engine still runs them together. A direct
    `generate()` of several prompts sends whole answers only: LangChain gives it one run to report tokens to.

    Example:
        ```python
        llm = DeepenLLM(model=["org/main-model", "org/other-model"], max_tokens=64)
        llm.invoke("The capital of France is")
        ```
    """

    @property
    def _llm_type(self) -> str:
        return "deepen"

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
    ) -> list[str]:
        """Answer many inputs in one engine call, or as runs of their own where the class says so."""
        if not (self.streaming or return_exceptions):
            return super().batch(inputs, config, **kwargs)
        configs = self._side_by_side(inputs, config)
        return Runnable.batch(self, inputs, configs, return_exceptions=return_exceptions, **kwargs)

    async def abatch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[str]:
        """Async twin of `batch`."""
        if not (self.streaming or return_exceptions):
            return await super().abatch(inputs, config, **kwargs)
        configs = self._side_by_side(inputs, config)
        return await Runnable.abatch(self, inputs, configs, return_exceptions=return_exceptions, **kwargs)

    def generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        callbacks: Callbacks | list[Callbacks] | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        """Answer the prompts in one engine call, through LangChain's cache and callbacks.

        Raises:
            ConfigError: An option that does not exist or cannot be used.
        """
        options, settings = _split(kwargs)
        model = self._for_call(None, options)
        return super(DeepenLLM, model).generate(prompts, stop, callbacks, **settings)

    async def agenerate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        callbacks: Callbacks | list[Callbacks] | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        """Async twin of `generate`; cancelling it stops the work in the engine."""
        options, settings = _split(kwargs)
        model = await self._afor_call(None, options)
        return await super(DeepenLLM, model).agenerate(prompts, stop, callbacks, **settings)

    def _generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        if self.streaming and len(prompts) == 1:
            return self._join(list(self._stream(prompts[0], stop, run_manager, **kwargs)))
        call = self._for_call(stop, kwargs)
        with in_langchains_terms():
            return call._result(call.ensemble.generate(prompts, call._params(None, {})))

    async def _agenerate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        if self.streaming and len(prompts) == 1:
            return self._join([chunk async for chunk in self._astream(prompts[0], stop, run_manager, **kwargs)])
        call = await self._afor_call(stop, kwargs)
        with in_langchains_terms():
            return call._result(await call.ensemble.agenerate(prompts, call._params(None, {})))

    def _stream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[GenerationChunk]:
        call = self._for_call(stop, kwargs)
        with in_langchains_terms(), call.ensemble.stream(prompt, call._params(None, {})) as stream:
            for piece in stream:
                chunk = call._chunk(piece)
                if run_manager:
                    run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk

    async def _astream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[GenerationChunk]:
        call = await self._afor_call(stop, kwargs)
        with in_langchains_terms():
            async with aclosing(call.ensemble.astream(prompt, call._params(None, {}))) as stream:
                async for piece in stream:
                    chunk = call._chunk(piece)
                    if run_manager:
                        await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                    yield chunk

    def _result(self, answers: Sequence[Answer]) -> LLMResult:
        """The answers to each prompt, each with its own usage, and the usage of all of them together."""
        return LLMResult(
            generations=[
                [Generation(text=one.text, generation_info=self._info(one)) for one in answer.answers]
                for answer in answers
            ],
            llm_output={
                "model_name": self.model_name,
                "token_usage": token_usage(answer.total_usage for answer in answers),
            },
        )

    def _join(self, chunks: list[GenerationChunk]) -> LLMResult:
        """The pieces of one stream as a whole answer."""
        whole = reduce(add, chunks)
        info = whole.generation_info or {}
        return LLMResult(
            generations=[[Generation(text=whole.text, generation_info=info)]],
            llm_output={"model_name": self.model_name, "token_usage": info.get("token_usage", {})},
        )

    def _chunk(self, piece: Chunk) -> GenerationChunk:
        """One piece of a stream as LangChain knows it."""
        return GenerationChunk(text=piece.text, generation_info=self._info(piece) or None)

    def _info(self, answer: Answer | Chunk) -> dict[str, Any]:
        """What goes with the text of an answer or of a piece."""
        names = self.ensemble.member_names
        return {**token_info(answer), **finish_info(answer, names), **usage_info(answer)}


def _split(kwargs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options of one call, and LangChain's own settings of its run.

    LangChain leaves the options of one call out of an LLM's cache key. A model that has them as its own has them in
    its identity.
    """
    settings = {name: kwargs[name] for name in kwargs if name in _RUN_SETTINGS}
    return {name: kwargs[name] for name in kwargs if name not in _RUN_SETTINGS}, settings
