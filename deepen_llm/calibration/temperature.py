"""The temperature at which one member alone predicts best: a golden-section search over its logarithm.

The bits of a text are convex in 1 / temperature, since log-sum-exp is: there is one valley, and the search finds it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from deepen_llm.calibration.choice import Fit, Trial, is_better

LEAST, MOST = 0.5, 3.0
"""Temperatures are searched for between these."""
PRECISION = 0.03
"""In the logarithm: nearer than this, nothing changes any more."""
GOLDEN = (math.sqrt(5) - 1) / 2


def fit_temperature(measure: Callable[[float], Trial], before: Trial) -> Fit:
    """The best temperature, to two decimals, where it gains something beyond doubt.

    Args:
        measure: Scores the member at a temperature.
        before: At the temperature as it is.
    """
    low, high = math.log(LEAST), math.log(MOST)
    left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    on_left, on_right = _at(measure, left), _at(measure, right)
    while high - low > PRECISION:
        if is_better(on_right, on_left):
            low, left, on_left = left, right, on_right
            right = low + GOLDEN * (high - low)
            on_right = _at(measure, right)
        else:
            high, right, on_right = right, left, on_left
            left = high - GOLDEN * (high - low)
            on_left = _at(measure, left)
    best = on_right if is_better(on_right, on_left) else on_left
    return Fit(before, best if best.is_surely_above(before) else before)


def _at(measure: Callable[[float], Trial], log_temperature: float) -> Trial:
    return measure(round(math.exp(log_temperature), 2))
