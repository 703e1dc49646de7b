"""A continuation that is given, and how probable the ensemble finds it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from torch import Tensor

from deepen_llm.decoding.sequence import RunningSequence
from deepen_llm.members.guarded import GuardedMember
from deepen_llm.requests.deadline import Deadline
from deepen_llm.results import Score, StepTrace
from deepen_llm.vocabulary import EncodedText


@final
class ScoringSequence(RunningSequence):
    """Follows a given continuation and adds up its log-probability (teacher forcing)."""

    def __init__(
        self,
        members: Sequence[GuardedMember],
        main: int,
        prompts: Sequence[EncodedText],
        continuation_ids: Sequence[int],
    ) -> None:
        super().__init__(members, main, prompts, Deadline(None))
        self._forced = list(continuation_ids)
        self._logprob = 0.0
        self._is_greedy = True

    def choose(self, logprobs: Tensor, best: int) -> int:
        """The next token of the continuation, whatever is best."""
        token_id = self._forced[self.num_steps]
        self._is_greedy &= token_id == best
        return token_id

    @property
    def given_ids(self) -> Sequence[int]:
        """What is left of the continuation."""
        return self._forced[self.num_steps :]

    def accept(self, token_id: int, logprobs: Tensor, trace: StepTrace | None) -> None:
        """Add the token's log-probability."""
        self._count_step()
        self._logprob += float(logprobs[token_id])
        self._push(token_id)
        self.is_finished = self.num_steps == len(self._forced)

    def finish_full(self) -> None:
        """A continuation that does not fit cannot be scored."""
        raise next(track for track in self.tracks if track.is_full).context_error()

    def result(self) -> Score:
        """The sum over all tokens."""
        return Score(
            logprob=self._logprob,
            is_greedy=self._is_greedy,
            num_tokens=self.num_steps,
            fusion=self.fusion_report(),
        )
