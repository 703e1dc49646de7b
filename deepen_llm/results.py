"""What the ensemble gives back: plain, frozen values without tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of the main model: those of the prompt and those generated."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = field(default=0, compare=False)
    """How many of the prompt's the main model had read before, and was not fed again."""

    @property
    def total_tokens(self) -> int:
        """Prompt and completion together."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Candidate:
    """One token with its probability at one step; `text` is for display (incomplete UTF-8 shows as U+FFFD)."""

    token_id: int
    text: str
    prob: float


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """The natural-log probability of a chosen token under the fused distribution, with the best alternatives.

    A structure of the answer counts in it; a bias, penalties, temperature and filters do not.
    """

    token_id: int
    text: str
    logprob: float
    top: tuple[Candidate, ...] = ()


@dataclass(frozen=True, slots=True)
class FusionReport:
    """How the members worked together on one answer, and what that took beside one forward pass a member and token."""

    num_steps: int
    num_fused: int
    """Steps in which the other members had a say."""
    num_extra_rows: int
    num_extra_passes: int
    """Rows, and forward passes that they were part of, in which members' tokens were expanded to be projected."""
    truncated_mass: float
    """The mean share of a member's mass that was not expanded to where it could be projected."""
    num_abstained: int = 0
    """How often a member could not be projected, because its vocabulary cannot express the text: its weight went to the
    main model."""
    weights: tuple[float, ...] = ()
    """The members' weights as they were last, in their order, summing to 1."""
    num_forced: int = 0
    """Steps at which a structure left no choice: no member was asked."""
    num_drafted: int = field(default=0, compare=False)
    """Tokens that were read ahead of the text: written by a member, or looked up in it."""
    num_accepted: int = field(default=0, compare=False)
    """Those of them that were chosen: at so many steps the members were asked in the pass of an earlier one."""
    num_cached: tuple[int, ...] = ()
    """How many tokens of the prompt each member had read before, in an earlier request or another that runs."""

    @property
    def share_fused(self) -> float:
        """The share of steps with a choice that were fused; 0 where there was none."""
        num_chosen = self.num_steps - self.num_forced
        return self.num_fused / num_chosen if num_chosen else 0.0


@dataclass(frozen=True, slots=True)
class StepTimes:
    """What an engine's steps took so far; a step is one of the whole batch."""

    num_steps: int
    seconds: tuple[float, ...]
    """How long each member was waited for, in their order."""


@dataclass(frozen=True, slots=True)
class MemberTrace:
    """What one member said at one step: its best tokens (ids of its own vocabulary).

    `extended` are the texts that were followed further before they were counted, where it was read as text.
    """

    member: str
    top: tuple[Candidate, ...]
    extended: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StepTrace:
    """One step: the token chosen, every member's best tokens, the fused ones, and who changed the choice.

    `changed_by` names the members whose best token, read as text, is the one chosen where the main model's own best
    token was another; it is empty where the choice is the main model's own. Where a step `is_fused` not, the
    main model chose alone, and the others were not asked; or, where `members` is empty, a structure left no choice.
    """

    step: int
    token_id: int
    text: str
    members: tuple[MemberTrace, ...]
    fused: tuple[Candidate, ...]
    changed_by: tuple[str, ...] = ()
    is_fused: bool = True
    weights: tuple[float, ...] = ()
    """The members' weights when the step was taken, summing to 1; empty where a structure left no choice."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a stream. The pieces' texts join to the whole; only the last piece has a finish reason and usage.

    Every piece but the last has text; only the last has a `fusion` report, and says whether the answer is shortened.
    `logprobs` and `trace` belong to the tokens in `token_ids`.
    """

    text: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] | None = None
    trace: tuple[StepTrace, ...] | None = None
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    fusion: FusionReport | None = field(default=None, compare=False)
    is_shortened: bool = False


@dataclass(frozen=True, slots=True)
class Generation:
    """A finished answer. `token_ids` are the main model's, end-of-sequence and stop tokens included.

    `is_shortened` says that a structured answer was closed because its tokens ran out: it is whole, but may have been
    longer. `alternatives` are the further answers where `n` asked for several, each with a usage of its own.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    usage: Usage
    logprobs: tuple[TokenLogprob, ...] | None = None
    trace: tuple[StepTrace, ...] | None = None
    fusion: FusionReport | None = field(default=None, compare=False)
    is_shortened: bool = False
    alternatives: tuple[Generation, ...] = ()

    @property
    def answers(self) -> tuple[Generation, ...]:
        """This answer and its alternatives, each alone."""
        return (replace(self, alternatives=()), *self.alternatives)

    @property
    def total_usage(self) -> Usage:
        """That of this answer and its alternatives: the prompt once, and what was generated for each."""
        num_completed = sum(answer.usage.completion_tokens for answer in self.answers)
        return Usage(self.usage.prompt_tokens, num_completed, self.usage.cached_tokens)

    @staticmethod
    def join(answers: Sequence[Generation]) -> Generation:
        """The first of several answers to one prompt, one at least, with the others as its alternatives."""
        return replace(answers[0], alternatives=tuple(answers[1:]))


@dataclass(frozen=True, slots=True)
class Score:
    """Natural-log probability of a continuation under the ensemble, and whether greedy decoding would produce it."""

    logprob: float
    is_greedy: bool
    num_tokens: int
    fusion: FusionReport | None = field(default=None, compare=False)
