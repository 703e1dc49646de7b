"""One call on the ensemble, sync or async, whole or streamed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deepen_llm.config import SamplingParams
from deepen_llm.results import Chunk, Generation
from llama_index.llms.deepen.deadline import aread_in_time, join, read_in_time, wait_in_time

if TYPE_CHECKING:
    from deepen_llm import Ensemble


@dataclass(frozen=True, slots=True)
class Request:
    """A text to continue, or messages that each member renders under its own chat template.

    The methods raise what the ensemble raises, and MemberTimeoutError where the answer is not whole in `timeout_s`.
    """

    content: str | list[dict[str, str]]
    params: SamplingParams
    timeout_s: float | None = None

    def run(self, ensemble: Ensemble) -> Generation:
        """The whole answer."""
        if self.timeout_s is not None:
            return join(self.stream(ensemble))
        if isinstance(self.content, str):
            return ensemble.generate(self.content, self.params)
        return ensemble.chat(self.content, self.params)

    async def arun(self, ensemble: Ensemble) -> Generation:
        """The whole answer; cancelling the task stops the work in the engine."""
        if isinstance(self.content, str):
            return await wait_in_time(ensemble.agenerate(self.content, self.params), self.timeout_s)
        return await wait_in_time(ensemble.achat(self.content, self.params), self.timeout_s)

    def stream(self, ensemble: Ensemble) -> Generator[Chunk, None, None]:
        """The answer in pieces; closing the stream stops the work in the engine."""
        if isinstance(self.content, str):
            return read_in_time(ensemble.stream(self.content, self.params), self.timeout_s)
        return read_in_time(ensemble.stream_chat(self.content, self.params), self.timeout_s)

    def astream(self, ensemble: Ensemble) -> AsyncGenerator[Chunk, None]:
        """The answer in pieces for an event loop; closing the stream stops the work in the engine."""
        if isinstance(self.content, str):
            return aread_in_time(ensemble.astream(self.content, self.params), self.timeout_s)
        return aread_in_time(ensemble.astream_chat(self.content, self.params), self.timeout_s)
