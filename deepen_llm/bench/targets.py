"""What a step of relative fusion must cost, and how close to the reference it must come, by what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

from deepen_llm.bench.fusion import FusionFigures

SMALL, LARGE = 32_768, 150_000
"""Tokens up to which a vocabulary has the targets of 32k, and from which it counts as one of 200k."""
BUILD_S = 600.0
"""Seconds for each `LARGE` rows that are built, of whichever member."""
NUM_COMPARED = 2_000
"""How many steps must be compared before it is known whether the reference's best tokens are met."""


@final
@dataclass(frozen=True, slots=True)
class Target:
    """One figure beside what it must reach."""

    name: str
    value: float
    limit: float
    wants: Literal["at most", "at least"] = "at most"
    is_known: bool = True
    """Whether enough was measured to tell."""

    @property
    def is_met(self) -> bool:
        """Whether the figure, as far as it was measured, reaches the limit."""
        return self.value <= self.limit if self.wants == "at most" else self.value >= self.limit


def find_targets(figures: FusionFigures) -> dict[str, Target]:
    """The targets that apply, by name, times in seconds or milliseconds as in the figures.

    Those of a step are for two members, and on a CPU for the sampled form.
    """
    targets = [
        Target("build_s", figures.build_s, BUILD_S * max(1.0, sum(figures.num_tokens) / LARGE)),
        Target("restart_s", figures.restart_s, 2.0),
        Target("member_bytes", max(figures.member_bytes), 100e6),
    ]
    if (found := figures.comparison) is not None:
        is_known = found.num_steps >= NUM_COMPARED
        targets += [
            Target("share_equal", found.share_equal, 0.995, "at least", is_known),
            Target("kl_median", found.kl_median, 1e-4, is_known=is_known),
            Target("kl_p99", found.kl_p99, 1e-2, is_known=is_known),
        ]
    return {target.name: target for target in targets + _time_targets(figures)}


def find_growth(figures: Sequence[FusionFigures]) -> Target | None:
    """By what a step grows from 32k to 200k tokens, the softmax over the logits aside; None where a size is missing."""
    small = [entry for entry in figures if SMALL / 2 < max(entry.num_tokens) <= SMALL]
    large = [entry for entry in figures if max(entry.num_tokens) >= LARGE]
    if not small or not large:
        return None
    own = [entry.step_ms.median - entry.softmax_ms.median for entry in (small[-1], large[-1])]
    return Target("growth", own[1] / own[0], 2.0)


def _time_targets(figures: FusionFigures) -> list[Target]:
    if len(figures.num_tokens) != 2:
        return []
    if figures.device != "cpu":
        return [Target("step_ms", figures.step_ms.median, 0.15), Target("batch_ms", figures.batch_ms.median, 0.6)]
    if figures.form != "sampled":
        return []
    step_ms, dense_ms = figures.step_ms.median, figures.dense_published_ms
    targets = [Target("step_ms", step_ms, 3.0 if max(figures.num_tokens) <= SMALL else 5.0)]
    if dense_ms is not None and min(figures.num_tokens) > SMALL / 2 and max(figures.num_tokens) <= SMALL:
        targets.append(Target("times_faster", dense_ms.median / step_ms, 500.0, "at least"))
    return targets
