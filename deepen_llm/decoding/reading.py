"""A text that is given, and what the ensemble says of each of its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from torch import Tensor

from deepen_llm.decoding.sequence import RunningSequence
from deepen_llm.decoding.tracing import describe_choice
from deepen_llm.members.guarded import GuardedMember
from deepen_llm.requests.deadline import Deadline
from deepen_llm.results import StepTrace, TokenLogprob
from deepen_llm.vocabulary import EncodedText
from deepen_llm.weighting.base import Weights
from deepen_llm.weighting.read_text import ReadWeights


@final
class ReadingSequence(RunningSequence):
    """Follows given tokens (teacher forcing) and notes the log-probability of each, with the best alternatives."""

    def __init__(
        self,
        members: Sequence[GuardedMember],
        main: int,
        prompts: Sequence[EncodedText],
        ids: Sequence[int],
        *,
        num_top: int,
        deadline: Deadline,
    ) -> None:
        """Begin behind a prompt.

        Args:
            members: Of the ensemble.
            main: Position of the main model.
            prompts: What is there before, in every member's tokens.
            ids: The tokens of the main model that follow, at least one.
            num_top: How many alternatives are told of each.
            deadline: When it must be done.

        Raises:
            ContextLengthError: The prompt leaves no room in some member's context.
        """
        super().__init__(members, main, prompts, deadline)
        self._ids, self._num_top = list(ids), num_top
        self._logprobs: list[TokenLogprob] = []

    def begin(self, weights: Weights, *, reads_prompt: bool = False) -> None:
        """Begin with these weights; where they learn from prompts, they do so from what is read."""
        super().begin(ReadWeights(weights) if reads_prompt else weights)

    def choose(self, logprobs: Tensor, best: int) -> int:
        """The next of the tokens, whatever is best."""
        return self._ids[self.num_steps]

    @property
    def given_ids(self) -> Sequence[int]:
        """The tokens that are left to read."""
        return self._ids[self.num_steps :]

    def accept(self, token_id: int, logprobs: Tensor, trace: StepTrace | None) -> None:
        """Note what the token was given."""
        self._count_step()
        self._logprobs.append(describe_choice(self._vocabulary, logprobs, token_id, self._num_top))
        self._push(token_id)
        self.is_finished = self.num_steps == len(self._ids)

    def finish_full(self) -> None:
        """A text that does not fit cannot be read."""
        raise next(track for track in self.tracks if track.is_full).context_error()

    def result(self) -> tuple[TokenLogprob, ...]:
        """One for each token."""
        return tuple(self._logprobs)
