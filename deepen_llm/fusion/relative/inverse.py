"""The inverse search: the main model's distribution whose relative probs come closest to the fused ones.

Both searches start at the main model's own distribution p and look for the p' that makes KL(r || p' R) small, where r
are the fused relative probs and R the main model's relative rows (arXiv 2404.12715, section 3). Rows of a batch are
independent, nothing needs autograd, and a token of probability 0 keeps it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

BETAS = (0.9, 0.999)
EPSILON = 1e-8
WEIGHT_DECAY = 0.01
SCHEDULE_PERIOD = 10
SCHEDULE_FLOOR = 0.25
"""The published search: AdamW's constants, and a cosine schedule with its floor as a share of the learning rate."""

TINY = 1e-35
"""Keeps r / (p R) finite where p R underflows."""

LEAST_RESIDUAL = 1e-10
"""The least probability of the residual, the tokens that a search leaves out taken as one, so that its logprob is
finite."""


@final
@dataclass(frozen=True, slots=True)
class InverseSearch:
    """Which search, and its constants."""

    kind: Literal["multiplicative", "gradient"]
    num_steps: int
    learning_rate: float
    """Of the gradient search; the multiplicative one has none."""

    def run(
        self,
        logprobs: Tensor,
        relative: Tensor,
        target: Tensor,
        *,
        num_free: int | None = None,
        num_anchors: int | None = None,
    ) -> Tensor:
        """Search from logprobs `(batch, num_tokens)`; see the two functions below for the arguments.

        Args:
            logprobs: Where to start.
            relative: The tokens' rows.
            target: The fused relative probs.
            num_free: Under the gradient search the tokens past this many are held still: they stand for many tokens,
                of which AdamW would move each its own way. None holds none.
            num_anchors: Over how many anchors the gradient search averages its loss; None: as many as columns.
        """
        if self.kind == "multiplicative":
            return multiplicative_search(logprobs, relative, target, num_steps=self.num_steps)
        return gradient_search(
            logprobs,
            relative,
            target,
            num_steps=self.num_steps,
            learning_rate=self.learning_rate,
            num_free=num_free,
            num_anchors=num_anchors,
        )


def multiplicative_search(logprobs: Tensor, relative: Tensor, target: Tensor, *, num_steps: int) -> Tensor:
    """Expectation-maximisation for mixture weights, also known as Richardson-Lucy.

        p <- p * (R @ (r / (p R)))

    No learning rate; p stays on the simplex and KL(r || p R) never rises. A p with p R = r is a fixed point. A token
    whose probability underflows keeps its logprob, up to the normalization.

    Args:
        logprobs: Where to start, logprobs `(batch, num_tokens)`, float32; `-inf` stays.
        relative: Probs over anchors: `(num_tokens, num_anchors)`, or `(batch, num_tokens, num_anchors)`.
        target: The fused relative probs `(batch, num_anchors)`.
        num_steps: 0 returns `logprobs`.

    Returns:
        Logprobs `(batch, num_tokens)`, normalized up to rounding.
    """
    if num_steps == 0:
        return logprobs
    start = logprobs.exp()
    is_single = relative.dim() == 2
    # Kept as rows of a matrix, so that a step is two products and two small operations.
    probs, target = (start, target) if is_single else (start.unsqueeze(1), target.unsqueeze(1))
    transposed = relative.transpose(-1, -2)
    for _ in range(num_steps):
        mixed = (probs @ relative).clamp_min_(TINY)
        probs = probs * (torch.div(target, mixed, out=mixed) @ transposed)
    probs = probs if is_single else probs.squeeze(1)
    factors = torch.where(start > 0, probs / start, 1.0)
    return torch.log_softmax(logprobs + factors.log_(), dim=-1)


def gradient_search(
    logits: Tensor,
    relative: Tensor,
    target: Tensor,
    *,
    num_steps: int,
    learning_rate: float,
    num_free: int | None = None,
    num_anchors: int | None = None,
) -> Tensor:
    """The published search, constant for constant: AdamW on the logits z with a cosine schedule.

    The loss is KL(r || q) averaged over the A anchors, q = softmax(z) R. Its gradient in closed form, p = softmax(z):

        dL/dz_w = p_w / A * (sum_a r_a - sum_a R[w, a] r_a / q_a)

    Args:
        logits: Where to start, `(batch, num_tokens)`, float32; `-inf` stays.
        relative: Probs over anchors: `(num_tokens, num_anchors)`, or `(batch, num_tokens, num_anchors)`.
        target: The fused relative probs `(batch, num_anchors)`.
        num_steps: 0 returns the start as logprobs.
        learning_rate: The first step's; the published name is relative ensemble learning rate.
        num_free: Tokens past this many feel the weight decay but not the gradient; None moves all.
        num_anchors: A, where the columns are not one an anchor; None: the number of columns.

    Returns:
        Logprobs `(batch, num_tokens)`.
    """
    beta1, beta2 = BETAS
    num_anchors = num_anchors or target.shape[-1]
    total = target.sum(dim=-1, keepdim=True)
    mean, square = torch.zeros_like(logits), torch.zeros_like(logits)
    for step in range(num_steps):
        rate = cosine_rate(learning_rate, step)
        probs = torch.softmax(logits, dim=-1)
        ratios = target / mix(probs, relative).clamp_min(TINY)
        gradient = probs * (total - pull(ratios, relative)) / num_anchors
        if num_free is not None:
            gradient[:, num_free:] = 0.0
        mean = beta1 * mean + (1 - beta1) * gradient
        square = beta2 * square + (1 - beta2) * gradient * gradient
        root = (square / (1 - beta2 ** (step + 1))).sqrt() + EPSILON
        logits = logits * (1 - rate * WEIGHT_DECAY) - rate / (1 - beta1 ** (step + 1)) * mean / root
    return torch.log_softmax(logits, dim=-1)


def cosine_rate(learning_rate: float, step: int) -> float:
    """The learning rate of a step, counted from 0: a cosine of period 10 between the rate and a quarter of it."""
    floor = SCHEDULE_FLOOR * learning_rate
    return floor + (learning_rate - floor) * (1 + math.cos(math.pi * step / SCHEDULE_PERIOD)) / 2


def mix(probs: Tensor, relative: Tensor) -> Tensor:
    """The relative probs `p R`, `(batch, num_anchors)`, of probs `(batch, num_tokens)`."""
    if relative.dim() == 2:
        return probs @ relative
    return torch.bmm(probs.unsqueeze(1), relative).squeeze(1)


def pull(ratios: Tensor, relative: Tensor) -> Tensor:
    """What each token gathers of the anchors' `ratios`: `R @ ratios`, `(batch, num_tokens)`."""
    # The transposed product, not `relative @ column`: on CPU that one is ten times slower for a batch.
    return mix(ratios, relative.transpose(-1, -2))
