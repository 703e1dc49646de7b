from __future__ import annotations

import math

import pytest
import torch

from deepen_llm.calibration.choice import Choice, Trial
from deepen_llm.calibration.temperature import fit_temperature


def trial(temperature, scores):
    return Trial(Choice(0, (1.0,), 1.0, temperatures=(temperature,)), tuple(scores), (False,) * len(scores))


@pytest.mark.parametrize("best", [0.6, 0.9, 1.4, 2.5])
def test_a_model_whose_logits_were_multiplied_gets_the_factor_as_its_temperature(best):
    """Draws from softmax(logits / best) are most probable at that temperature."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(4000, 8, generator=generator, dtype=torch.float64)
    drawn = torch.multinomial((logits / best).softmax(dim=-1), 1, generator=generator)
    asked = []

    def measure(temperature):
        asked.append(temperature)
        return trial(temperature, (logits / temperature).log_softmax(dim=-1).gather(1, drawn)[:, 0].tolist())

    fit = fit_temperature(measure, measure(1.0))

    assert fit.after.choice.temperatures[0] == pytest.approx(best, rel=0.06)
    assert fit.after.is_surely_above(fit.before)
    assert len(asked) <= 13 and all(0.5 <= temperature <= 3 for temperature in asked)


@pytest.mark.parametrize(("slope", "end"), [(1.0, 3.0), (-1.0, 0.5)])
def test_what_lies_beyond_is_fitted_at_the_end(slope, end):
    def measure(temperature):
        return trial(temperature, [slope * math.log(temperature)] * 9)

    assert fit_temperature(measure, measure(1.0)).after.choice.temperatures[0] == pytest.approx(end, rel=0.04)


def test_impossible_answers_leave_a_temperature_alone():
    def measure(temperature):
        return trial(temperature, [-math.inf, -1.0])

    before = measure(1.0)
    assert fit_temperature(measure, before).after is before
