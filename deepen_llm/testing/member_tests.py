"""What tests of any member stand on: the member, tokens to feed it, and which distributions count as equal."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from deepen_llm.members.base import Member

MIN_TOKENS = 10
"""The least that the text must come to, so that every test has tokens to feed, to take back and to put elsewhere."""


class MemberTests(ABC):
    """How the member under test is made, and what its tests compare by.

    Every test has a member of its own, in `self.member`, and runs in `torch.inference_mode`, as the engine does.

    Distributions count as equal where they differ no more than rounding makes them. Sums in another order (a batch, a
    cache) move a float32 logit: one rounding of a number below 64 is at most 64 * 2^-24, and 256 of these in a row add
    up to 2^-10, about 0.001, which is `logit_tolerance`. The other two follow from it, unless they are set: where no
    logit is off by more than d, no log-probability is off by more than 2d, and the KL divergence is at most d^2 / 2
    (Hoeffding). One rounding to bfloat16 is 64 * 2^-8 already, a quarter: test in float32 where it can be had.
    """

    text: str = "the cat sat on the mat, and then the dog ran away."
    """What the member is fed: at least `MIN_TOKENS` tokens of its vocabulary that fit its context."""
    logit_tolerance: float = 2.0**-10
    """How far the arithmetic may move a logit."""
    kl_tolerance: float | None = None
    """The greatest KL divergence of equal distributions, in nats; None for `logit_tolerance ** 2 / 2`."""
    logprob_tolerance: float | None = None
    """How far the log-probability of one token may be off, in nats; None for `2 * logit_tolerance`."""

    member: Member
    """The member of the running test."""
    ids: list[int]
    """The tokens of `text`."""
    others: list[int]
    """As many other tokens: those of `text` from the last to the first."""

    @abstractmethod
    def make_member(self) -> Member:
        """A new member without rows. Called once for each test; what is slow to load may be kept and wrapped anew."""

    def close_member(self) -> None:
        """Close `self.member` for good. To be overridden where its `close` leaves that to somebody else."""
        self.member.close()

    def count_cached(self) -> int | None:
        """How much the rows of `self.member` hold, in any unit, to see that `release` frees it; None: not counted."""
        return None

    def setup_method(self) -> None:
        """Make the member. pytest calls this before each test."""
        self.member = self.make_member()
        self.ids = self.member.vocabulary.encode(self.text)
        self.others = self.ids[::-1]
        self._mode = torch.inference_mode()
        self._mode.__enter__()
        fits = MIN_TOKENS <= len(self.ids) <= self.member.context_length - 2
        assert fits, f"`text` must have {MIN_TOKENS} tokens or more and fit the context; it has {len(self.ids)}"

    def teardown_method(self) -> None:
        """Close the member. pytest calls this after each test."""
        self._mode.__exit__(None, None, None)
        self.member.close()

    def _after(self, ids: Sequence[int]) -> Tensor:
        """The logits after these tokens in a row of their own, fed in one pass of one row: what all is held against."""
        row = self.member.open()
        logits = self.member.extend({row: ids})[0].clone()
        self.member.release(row)
        return logits

    def _check_all(self, got: Tensor, expected: Sequence[Tensor], what: str) -> None:
        assert len(got) == len(expected), f"the logits {what} must have {len(expected)} rows; got {len(got)}"
        for place, (logits, due) in enumerate(zip(got, expected, strict=True)):
            self._check_equal(logits, due, f"{what} (place {place})")

    def _check_equal(self, got: Tensor, expected: Tensor, what: str) -> None:
        """The same distribution, and the same best token unless two are as good."""
        limit = self.logit_tolerance**2 / 2 if self.kl_tolerance is None else self.kl_tolerance
        left, right = find_logprobs(got), find_logprobs(expected)
        divergence = max(_kl(left, right), _kl(right, left))
        assert divergence <= limit, (
            f"the logits {what} must be those of the same tokens fed at once to a row alone: the KL divergence is "
            f"{divergence:.3g} nats, and at most {limit:.3g} is rounding"
        )
        best = int(right.argmax())
        short = float(left.max() - left[best])
        assert short <= 2 * self.logit_tolerance, (
            f"the best token {what} must be {best}; {int(left.argmax())} has {short:.3g} nats more"
        )


def find_logprobs(logits: Tensor) -> Tensor:
    """In float64, so that the comparison rounds nothing itself."""
    return logits.detach().to("cpu", torch.float64).log_softmax(dim=-1)


def _kl(left: Tensor, right: Tensor) -> float:
    """KL(left || right) of log-probabilities, in nats; infinite where `right` rules out what `left` does not."""
    terms = torch.where(left == -math.inf, 0.0, left.exp() * (left - right))
    total = float(terms.sum())
    return math.inf if math.isnan(total) else total
