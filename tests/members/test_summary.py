from __future__ import annotations

import math

import torch

from deepen_llm.members.summary import Summary


def test_what_is_told_is_exact_and_the_rest_is_spread_evenly():
    probs = torch.tensor([[0.5, 0.1, 0.25, 0.15], [0.1, 0.2, 0.3, 0.4]])
    told = Summary.of_logits(probs.log() + 3, num=2)
    expected = torch.tensor([[0.5, 0.125, 0.25, 0.125], [0.15, 0.15, 0.3, 0.4]])
    torch.testing.assert_close(told.spread(4).exp(), expected)


def test_every_distribution_sums_to_one():
    logits = torch.randn(3, 1000, generator=torch.Generator().manual_seed(0)) * 5
    for num in (1, 7, 256, 1000, 5000):
        spread = Summary.of_logits(logits, num=num).spread(1000)
        torch.testing.assert_close(spread.logsumexp(dim=-1), torch.zeros(3), atol=1e-5, rtol=0)


def test_no_token_is_ruled_out_where_what_was_told_sums_to_one_or_more():
    told = Summary(torch.tensor([[3, 1]], dtype=torch.int32), torch.tensor([[-1e-9, -30.0]]))
    spread = told.spread(5)
    assert spread.isfinite().all()
    assert spread.exp()[0, 0] < 1e-9


def test_all_tokens_told_are_the_distribution_itself():
    logits = torch.randn(2, 50, generator=torch.Generator().manual_seed(1)).bfloat16()
    told = Summary.of_logits(logits)
    torch.testing.assert_close(told.spread(50), logits.float().log_softmax(dim=-1))
    assert told.nbytes == 2 * 50 * 8


def test_ruled_out_tokens_stay_so_where_all_are_told():
    logits = torch.tensor([[0.0, -math.inf, 1.0]])
    assert Summary.of_logits(logits).spread(3)[0, 1] == -math.inf


def test_what_is_no_number_stays_for_the_guard_to_find():
    told = Summary(torch.tensor([[0, 2]], dtype=torch.int32), torch.tensor([[math.nan, -1.0]]))
    assert math.isnan(told.spread(4).amax())


def test_a_row_of_a_large_vocabulary_takes_two_kilobytes():
    assert Summary.of_logits(torch.zeros(1, 151_936)).nbytes == 2048
