"""An answer taken apart while it comes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, final

from deepen_llm.decoding.detokenizer import Detokenizer
from deepen_llm.explain.explanation import ExplainedToken, count_dropped, explain_token
from deepen_llm.results import Chunk, StepTrace

if TYPE_CHECKING:
    from deepen_llm.ensemble import Ensemble


@final
class LiveExplanation:
    """The tokens of one stream, as `explain_tokens` has those of a whole answer.

    A token comes as soon as its text is certain: what a stop string may yet take away is waited for.
    """

    def __init__(self, ensemble: Ensemble) -> None:
        """`ensemble` answers, with `SamplingParams(trace=True)`."""
        self._vocabularies = {member.name: member.vocabulary for member in ensemble.members}
        self._main = ensemble.main_name
        self._detokenizer: Detokenizer | None = None
        self._waiting: deque[tuple[StepTrace, str]] = deque()
        self._num_certain = self._num_told = 0
        """Characters of the answer's text, and those of the tokens that came."""

    def push(self, chunk: Chunk) -> Iterator[ExplainedToken]:
        """Take the next chunk; the tokens of which all is known now."""
        steps, is_last = list(chunk.trace or ()), chunk.finish_reason is not None
        tokens = [self._vocabularies[self._main].tokens[step.token_id] or b"" for step in steps]
        if self._detokenizer is None:
            self._detokenizer = Detokenizer(num_spaces=count_dropped(tokens, chunk.text))
        pieces = [self._detokenizer.push(token) for token in tokens]
        self._waiting += zip(steps, pieces, strict=True)
        if is_last and self._waiting:
            step, piece = self._waiting.pop()
            self._waiting.append((step, piece + self._detokenizer.flush()))
        self._num_certain += len(chunk.text)
        while self._waiting and (is_last or self._num_told + len(self._waiting[0][1]) <= self._num_certain):
            step, piece = self._waiting.popleft()
            yield explain_token(step, piece, self._num_certain - self._num_told, self._vocabularies, self._main)
            self._num_told += len(piece)
