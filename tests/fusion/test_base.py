"""One step as one value."""

from __future__ import annotations

import pytest
import torch

from deepen_llm.fusion.base import Distribution, Step, normalize
from tests.rounding import rounding


def make_step(weights, empty_rows=(), projected=True):
    generator = torch.Generator().manual_seed(3)
    logprobs = torch.randn(len(weights), 5, generator=generator).log_softmax(dim=-1)
    others = []
    for member in (0, 2):
        probs = torch.randn(len(weights), 5, generator=generator).softmax(dim=-1)
        rows = empty_rows if member == 2 else ()
        others.append(Distribution(member, probs if projected else None, None if projected else probs, rows))
    return Step.build(1, logprobs, logprobs.exp(), others, torch.tensor(weights))


def test_a_member_without_weight_in_every_row_takes_no_part():
    step = make_step([[0.0, 0.5, 0.5], [0.0, 0.25, 0.75]])
    assert [other.member for other in step.others] == [2]
    assert step.is_alone is None
    assert step.weight(2).tolist() == [[0.5], [0.75]]


def test_rows_in_which_the_main_model_has_all_the_weight_are_told():
    step = make_step([[0.0, 1.0, 0.0], [0.25, 0.5, 0.25]])
    assert step.is_alone.tolist() == [[True], [False]]


def test_where_a_member_has_nothing_to_give_the_main_model_gets_its_weight():
    given = [[0.25, 0.5, 0.25], [0.0, 0.5, 0.5]]
    step = make_step(given, empty_rows=[1])
    assert step.weights.tolist() == [[0.25, 0.5, 0.25], [0.0, 1.0, 0.0]]
    assert step.is_alone.tolist() == [[False], [True]]
    nobody = make_step(given[1:], empty_rows=[0])
    assert nobody.others == () and nobody.is_alone.tolist() == [[True]]


def test_the_weights_that_were_given_stay_as_they_were():
    weights = torch.tensor([[0.25, 0.5, 0.25]])
    probs = torch.full((1, 2), 0.5)
    Step.build(1, probs.log(), probs, [Distribution(0, probs, None, (0,))], weights)
    assert weights.tolist() == [[0.25, 0.5, 0.25]]


@pytest.mark.parametrize("projected", [True, False])
def test_what_each_member_gave_a_token_is_its_own_or_the_main_models(projected):
    step = make_step([[0.25, 0.5, 0.25], [0.5, 0.25, 0.25]], empty_rows=[1], projected=projected)
    token_ids = torch.tensor([3, 0])
    given = step.given(token_ids)
    for row, token_id in enumerate(token_ids.tolist()):
        main = step.probs[row, token_id]
        others = {other.member: other.projected[row, token_id] if projected else main for other in step.others}
        expected = [others[0], main, main if row == 1 else others[2]]
        assert given[row].tolist() == [float(one) for one in expected]


def test_rows_are_normalized_and_a_row_of_nothing_stays_one():
    logprobs = torch.tensor([[1.0, 2.0, -torch.inf], [-torch.inf] * 3])
    found = normalize(logprobs)
    assert found[0].exp().sum().item() == pytest.approx(1, abs=rounding(3, 2))
    assert (found[1] == -torch.inf).all()
