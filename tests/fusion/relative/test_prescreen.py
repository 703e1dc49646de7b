from __future__ import annotations

import pytest
import torch

from deepen_llm.fusion.relative.inverse import multiplicative_search
from deepen_llm.fusion.relative.prescreen import OwnAnchors, prescreen
from tests.rounding import rounding

OWN = OwnAnchors(torch.tensor([1, 0, 1, 2]), torch.tensor([0.5, 0.9, 0.25, 1.0]), 4)
ROUNDING = rounding(num_terms=5, num_steps=4)
"""Of at most five tokens: what they put on the anchors, its ratio, and what that makes of each token."""


def test_tokens_put_their_share_on_their_own_anchor():
    sums = OWN.sum_up(torch.tensor([[0.2, 0.5, 0.2, 0.1], [0.0, 0.0, 1.0, 0.0]]))
    torch.testing.assert_close(
        sums, torch.tensor([[0.45, 0.15, 0.1, 0.0], [0.0, 0.25, 0.0, 0.0]]), atol=ROUNDING, rtol=0
    )


def test_own_anchors_of_tokens_keep_their_shape():
    assert OWN.of(torch.tensor([[3, 0], [1, 2]])).tolist() == [[2, 1], [0, 1]]


def test_where_every_row_is_its_own_anchor_the_prescreen_is_one_step_of_the_search():
    positions = torch.tensor([0, 1, 2, 0, 1])
    own = OwnAnchors(positions, torch.ones(5), 3)
    probs = torch.tensor([[0.1, 0.2, 0.3, 0.15, 0.25]])
    theirs = torch.tensor([[0.6, 0.3, 0.1]])
    screened = probs * prescreen(own, probs, 0.7, [0.3 * theirs])
    relative = torch.nn.functional.one_hot(positions, 3).float()
    target = 0.7 * probs @ relative + 0.3 * theirs
    expected = multiplicative_search(probs.log(), relative, target, num_steps=1).exp()
    torch.testing.assert_close(screened, expected, atol=2 * ROUNDING, rtol=0)


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_a_token_follows_its_anchor_as_far_as_its_row_lies_on_it(share):
    own = OwnAnchors(torch.tensor([0, 1]), torch.tensor([share, 1.0]), 2)
    probs = torch.tensor([[0.5, 0.5]])
    factors = prescreen(own, probs, 0.5, [0.5 * own.sum_up(torch.tensor([[1.0, 0.0]]))])
    torch.testing.assert_close(factors[0, 0], torch.tensor(1 + share * 0.5), atol=ROUNDING, rtol=0)


def test_agreement_changes_nothing():
    probs = torch.tensor([[0.2, 0.5, 0.2, 0.1]])
    factors = prescreen(OWN, probs, 0.25, [0.5 * OWN.sum_up(probs), 0.25 * OWN.sum_up(probs)])
    torch.testing.assert_close(factors, torch.ones(1, 4), atol=ROUNDING, rtol=0)
