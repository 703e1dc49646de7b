"""Shares, means and ratios with 95% intervals, and a test against guessing. Deterministic: the seed is fixed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Z_95 = 1.959963984540054
NUM_RESAMPLES = 4000
SEED = 20240415


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95% confidence interval."""

    value: float
    low: float
    high: float


def wilson_estimate(num_correct: int, num_questions: int) -> Estimate:
    """The share of right answers with the score interval of Wilson (1927), which holds near 0 and 1 as well.

    Raises:
        ValueError: No questions, or more right answers than questions.
    """
    if not 0 <= num_correct <= num_questions or num_questions == 0:
        raise ValueError(f"needs 0 <= right answers <= questions, at least one; got {num_correct} of {num_questions}")
    share, z_squared = num_correct / num_questions, Z_95**2 / num_questions
    centre = (share + z_squared / 2) / (1 + z_squared)
    spread = Z_95 * math.sqrt(share * (1 - share) / num_questions + z_squared / (4 * num_questions)) / (1 + z_squared)
    return Estimate(share, min(share, max(0.0, centre - spread)), max(share, min(1.0, centre + spread)))


def chance_of_guessing(num_correct: int, chances: Sequence[float]) -> float:
    """How probable so many right answers or more are where each question is guessed right with a chance of its own.

    Exact: the upper tail of the binomial distribution where all chances are equal, of the Poisson binomial otherwise.
    """
    probs = [1.0]  # probs[k]: of k right answers to the questions so far
    for chance in chances:
        wrong, right = [prob * (1 - chance) for prob in probs], [prob * chance for prob in probs]
        probs = [a + b for a, b in zip([*wrong, 0.0], [0.0, *right], strict=True)]
    return min(1.0, math.fsum(probs[num_correct:]))


def mean_over_tasks(grades: Sequence[Sequence[float]]) -> Estimate:
    """The mean over tasks of each task's mean grade, with the percentile bootstrap over questions.

    Questions are drawn anew within each task, so that every task keeps its number of questions. Grades may be 0 and 1,
    or differences of two systems' grades on the same questions (a paired bootstrap).

    Raises:
        ValueError: No tasks, or a task without questions.
    """
    if not grades or not all(grades):
        raise ValueError(f"every task needs at least one question; got {[len(task) for task in grades]} questions")
    generator = torch.Generator().manual_seed(SEED)
    means = torch.stack([_resampled_means(torch.tensor(task, dtype=torch.float64), generator) for task in grades])
    low, high = torch.quantile(means.mean(dim=0), torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Estimate(sum(sum(task) / len(task) for task in grades) / len(grades), low, high)


def ratio_estimate(values: Sequence[float], sizes: Sequence[float]) -> Estimate:
    """The sum of the values over the sum of the sizes, with the percentile bootstrap over pairs; the seed is fixed.

    Infinite where one of the values is: a text that a method gives no probability at all. Of a single pair, the
    interval is not a number.

    Raises:
        ValueError: No pairs.
    """
    if not values:
        raise ValueError("an estimate needs at least one question")
    if not all(map(math.isfinite, values)):
        return Estimate(math.inf, math.inf, math.inf)
    if len(values) == 1:
        return Estimate(values[0] / sizes[0], math.nan, math.nan)
    generator = torch.Generator().manual_seed(SEED)
    pairs = torch.tensor([values, sizes], dtype=torch.float64)
    ratios = []
    for _ in range(NUM_RESAMPLES):
        drawn = pairs[:, torch.randint(len(values), (len(values),), generator=generator)].sum(dim=1)
        ratios.append(drawn[0] / drawn[1])
    low, high = torch.quantile(torch.stack(ratios), torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Estimate(sum(values) / sum(sizes), low, high)


def _resampled_means(grades: Tensor, generator: torch.Generator) -> Tensor:
    """Means (NUM_RESAMPLES,) of as many questions drawn with replacement."""
    drawn = torch.randint(len(grades), (NUM_RESAMPLES, len(grades)), generator=generator)
    return grades[drawn].mean(dim=1)
