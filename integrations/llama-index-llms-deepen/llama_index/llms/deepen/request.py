"""One call on the ensemble, sync or async, whole or streamed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deepen_llm.config import SamplingParams
from deepen_llm.results import Generation
from llama_index.llms.deepen.errors import in_llama_indexes_terms

if TYPE_CHECKING:
    from deepen_llm import Ensemble
    from deepen_llm.requests.streams import AsyncStream, Stream


@dataclass(frozen=True, slots=True)
class Request:
    """A text to continue, or messages that each member renders under its own chat template.

    The methods raise what the ensemble raises; where a whole answer is asked for, prompts are refused in LlamaIndex's
    terms.
    """

    content: str | list[dict[str, str]]
    params: SamplingParams
    template_kwargs: Mapping[str, Any] | None = None
    """Further variables that the chat templates see."""

    def run(self, ensemble: Ensemble) -> Generation:
        """The whole answer."""
        with in_llama_indexes_terms():
            if isinstance(self.content, str):
                return ensemble.generate(self.content, self.params)
            return ensemble.chat(self.content, self.params, chat_template_kwargs=self.template_kwargs)

    async def arun(self, ensemble: Ensemble) -> Generation:
        """The whole answer; cancelling the task stops the work in the engine."""
        with in_llama_indexes_terms():
            if isinstance(self.content, str):
                return await ensemble.agenerate(self.content, self.params)
            return await ensemble.achat(self.content, self.params, chat_template_kwargs=self.template_kwargs)

    def stream(self, ensemble: Ensemble) -> Stream:
        """The answer in pieces; closing the stream stops the work in the engine."""
        if isinstance(self.content, str):
            return ensemble.stream(self.content, self.params)
        return ensemble.stream_chat(self.content, self.params, chat_template_kwargs=self.template_kwargs)

    def astream(self, ensemble: Ensemble) -> AsyncStream:
        """The answer in pieces for an event loop; closing the stream stops the work in the engine."""
        if isinstance(self.content, str):
            return ensemble.astream(self.content, self.params)
        return ensemble.astream_chat(self.content, self.params, chat_template_kwargs=self.template_kwargs)
