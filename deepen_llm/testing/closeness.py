"""Whether two computations of the same distribution differ by no more than rounding explains."""

from __future__ import annotations

import math

import torch
from torch import Tensor

SUMS_PER_LAYER = 8
"""Sums over the width in one layer: queries, keys, values, attention, its output, three of the feed-forward part."""


def rounding_error(largest: float, *, dtype: torch.dtype, num_layers: int, hidden: int) -> float:
    """How far a logit may be off where the same sums are taken in another order.

    A sum of n terms is off by about sqrt(n) units of rounding of its largest terms (Higham, Accuracy and Stability of
    Numerical Algorithms, 2nd edition, section 4.2); here n is the width, and the errors of all layers and of the head
    add up.

    Args:
        largest: The greatest logit in absolute value: what the error is relative to.
        dtype: In which the model computes.
        num_layers: Of the model.
        hidden: Its width.
    """
    return torch.finfo(dtype).eps * math.sqrt(hidden) * SUMS_PER_LAYER * (num_layers + 1) * largest


def kl_of_error(error: float) -> float:
    """The most that the KL divergence can be, in nats, where no logit is off by more than `error`.

    KL(p || q) is log E_p[exp d] - E_p[d] for the differences d of the logits, and for d in [-error, error] that is at
    most error^2 / 2 (Hoeffding's lemma).
    """
    return error**2 / 2


def error_of_kl(kl: float) -> float:
    """The least error of single logits that explains a KL divergence: `kl_of_error` the other way round."""
    return math.sqrt(2 * kl)


def kl_divergence(first: Tensor, second: Tensor) -> float:
    """KL(first || second) in nats of two vectors of logits `(num_logits,)`, computed in float64."""
    logprobs, others = (logits.double().cpu().log_softmax(dim=-1) for logits in (first, second))
    probs = logprobs.exp()
    return float(torch.where(probs > 0, probs * (logprobs - others), torch.zeros_like(probs)).sum())


def find_difference(got: Tensor, expected: Tensor, max_kl: float) -> str | None:
    """What is too different between two vectors of logits `(num_logits,)`, for people to read; None where nothing is.

    They may differ by `max_kl` nats, and in their best token where the best two are as near as that explains.
    """
    kl = kl_divergence(expected, got)
    if not kl <= max_kl:
        return f"KL divergence {kl:.3g} nats, at most {max_kl:.3g} are allowed"
    best, due = int(got.argmax()), int(expected.argmax())
    gap = float(expected[due] - expected[best])
    if gap > 2 * error_of_kl(max_kl):
        return f"best token {best} instead of {due}, whose logit is {gap:.3g} greater"
    return None
