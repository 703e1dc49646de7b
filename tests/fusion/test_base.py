"""One step as one value."""

from __future__ import annotations

import pytest
import torch

from deepen_llm.fusion.base import Distribution, Distributions, Step, normalize
from tests.rounding import rounding


def make_given(batch=2, empty_rows=(), own_share=0.0):
    """What three members give, the second the main model: of the others' mass a share is in tokens of their own."""
    generator = torch.Generator().manual_seed(3)
    logprobs = torch.randn(batch, 5, generator=generator).log_softmax(dim=-1)
    others = []
    for member in (0, 2):
        projected, own = torch.randn(2, batch, 5, generator=generator).softmax(dim=-1)
        rows = empty_rows if member == 2 else ()
        parts = [(1 - own_share) * projected, own_share * own]
        others.append(Distribution(member, *(part if part.any() else None for part in parts), rows))
    return Distributions(1, logprobs, logprobs.exp(), others, 3)


def make_step(weights, empty_rows=()):
    return Step.build(make_given(len(weights), empty_rows), torch.tensor(weights))


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
    given = Distributions(1, probs.log(), probs, [Distribution(0, probs, None, (0,))], 3)
    assert Step.build(given, weights).weights.tolist() == [[0.0, 0.75, 0.25]]
    assert weights.tolist() == [[0.25, 0.5, 0.25]]


@pytest.mark.parametrize("own_share", [0.0, 0.3, 1.0])
def test_what_each_member_gave_a_token_is_its_own_or_the_main_models(own_share):
    """The main model's count where nothing is said, and for the mass that its tokens cannot express."""
    given = make_given(empty_rows=[1], own_share=own_share)
    token_ids = torch.tensor([3, 0])
    found = given.given(token_ids)
    for row, token_id in enumerate(token_ids.tolist()):
        main = float(given.probs[row, token_id])
        first, last = (
            main * own_share + (0.0 if other.projected is None else float(other.projected[row, token_id]))
            for other in given.others
        )
        expected = [first, main, main if row == 1 else last]
        assert found[row].tolist() == pytest.approx(expected, abs=rounding(5, 2))


def test_a_member_that_was_not_asked_gave_what_the_main_model_gave():
    given = make_given()
    asked = Distributions(1, given.logprobs, given.probs, given.others[1:], 3)
    found = asked.given(torch.tensor([3, 0]))
    assert torch.equal(found[:, 0], found[:, 1]) and not torch.equal(found[:, 2], found[:, 1])


def test_rows_are_normalized_and_a_row_of_nothing_stays_one():
    logprobs = torch.tensor([[1.0, 2.0, -torch.inf], [-torch.inf] * 3])
    found = normalize(logprobs)
    assert found[0].exp().sum().item() == pytest.approx(1, abs=rounding(3, 2))
    assert (found[1] == -torch.inf).all()
