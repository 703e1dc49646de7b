from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from deepen_llm.fusion.relative.inverse import cosine_rate, gradient_search, mix, multiplicative_search, pull
from tests import reference
from tests.rounding import rounding

SHAPES = [(1, 1, 1), (1, 2, 5), (3, 7, 4), (2, 33, 31), (5, 64, 17)]


def make_case(batch, num_tokens, num_anchors, seed=0, dtype=torch.float64):
    """Logits, relative rows, and a target that some other distribution gives."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(batch, num_tokens, generator=generator, dtype=dtype)
    relative = torch.softmax(2 * torch.randn(num_tokens, num_anchors, generator=generator, dtype=dtype), dim=-1)
    other = torch.softmax(3 * torch.randn(batch, num_tokens, generator=generator, dtype=dtype), dim=-1)
    return logits, relative, 0.5 * mix(torch.softmax(logits, dim=-1), relative) + 0.5 * mix(other, relative)


def tolerance(relative, num_steps):
    """Two products with the rows a step, after a softmax and before a normalization, in float32."""
    return rounding(max(relative.shape), 2 * num_steps + 2)


def kl(target, logprobs, relative):
    return (target * (target / mix(logprobs.exp(), relative)).log()).sum(dim=-1)


@pytest.mark.parametrize("num_steps", [0, 1, 5])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_multiplicative_search_equals_the_reference_loops(shape, num_steps, dtype):
    logits, relative, target = make_case(*shape)
    atol = 1e-12 if dtype == torch.float64 else tolerance(relative, num_steps)

    found = multiplicative_search(
        logits.to(dtype).log_softmax(-1), relative.to(dtype), target.to(dtype), num_steps=num_steps
    )

    for row in range(shape[0]):
        start = reference.softmax(logits[row].tolist())
        expected = reference.multiplicative_search(start, relative.tolist(), target[row].tolist(), num_steps)
        assert found[row].exp().tolist() == pytest.approx(expected, abs=atol)


@pytest.mark.parametrize("num_steps", [0, 1, 5, 25])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_gradient_search_equals_the_reference_loops(shape, num_steps):
    logits, relative, target = make_case(*shape)

    found = gradient_search(logits, relative, target, num_steps=num_steps, learning_rate=0.15)

    for row in range(shape[0]):
        expected = reference.gradient_search(
            logits[row].tolist(), relative.tolist(), target[row].tolist(), num_steps, 0.15
        )
        assert found[row].exp().tolist() == pytest.approx(expected, abs=1e-9)


@pytest.mark.lengthy
def test_the_gradient_search_in_float32_stays_within_rounding_of_the_reference():
    logits, relative, target = make_case(4, 40, 30)

    found = gradient_search(logits.float(), relative.float(), target.float(), num_steps=5, learning_rate=0.15)

    expected = gradient_search(logits, relative, target, num_steps=5, learning_rate=0.15)
    torch.testing.assert_close(found.exp().double(), expected.exp(), atol=tolerance(relative, 5), rtol=0)


@pytest.mark.lengthy
@pytest.mark.parametrize("num_steps", [1, 5, 30])
def test_the_gradient_search_equals_the_optimizer_and_the_schedule_of_torch(num_steps):
    logits, relative, target = make_case(1, 12, 9)
    variable = logits.clone().requires_grad_()
    optimizer = torch.optim.AdamW([variable], lr=0.3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10, eta_min=0.3 / 4)
    for _ in range(num_steps):
        optimizer.zero_grad()
        logprobs = mix(torch.softmax(variable, dim=-1), relative).log()
        F.kl_div(logprobs, target, reduction="none").mean().backward()
        optimizer.step()
        schedule.step()

    found = gradient_search(logits, relative, target, num_steps=num_steps, learning_rate=0.3)

    torch.testing.assert_close(found, variable.detach().log_softmax(dim=-1), atol=1e-9, rtol=0)


def test_the_learning_rate_falls_along_a_cosine_to_a_quarter_in_ten_steps():
    rates = [cosine_rate(0.2, step) for step in range(11)]

    assert rates[0] == pytest.approx(0.2) and rates[5] == pytest.approx(0.125) and rates[10] == pytest.approx(0.05)
    assert rates == sorted(rates, reverse=True)


def test_one_multiplicative_step_worked_out_by_hand():
    relative = torch.tensor([[0.5, 0.5], [0.0, 1.0]])
    # q = (1/4, 3/4); the ratios are (2, 2/3); R @ ratios = (4/3, 2/3).
    found = multiplicative_search(torch.tensor([[0.5, 0.5]]).log(), relative, torch.tensor([[0.5, 0.5]]), num_steps=1)

    torch.testing.assert_close(found.exp(), torch.tensor([[2 / 3, 1 / 3]]), atol=tolerance(relative, 1), rtol=0)


def test_the_multiplicative_search_never_moves_away_from_the_target_and_arrives():
    logits, relative, target = make_case(3, 20, 12)
    start = logits.log_softmax(dim=-1)

    gaps = torch.stack(
        [
            kl(target, multiplicative_search(start, relative, target, num_steps=n), relative)
            for n in (0, 1, 2, 5, 20, 500)
        ]
    )

    assert (gaps.diff(dim=0) <= 1e-12).all()
    assert (gaps[-1] < 1e-4).all() and (gaps[0] > 0.01).all()


def test_a_distribution_that_meets_the_target_is_a_fixed_point():
    logits, relative, _ = make_case(2, 15, 8)
    start = logits.log_softmax(dim=-1)

    found = multiplicative_search(start, relative, mix(start.exp(), relative), num_steps=5)

    torch.testing.assert_close(found, start, atol=1e-12, rtol=0)


@pytest.mark.parametrize("search", ["multiplicative", "gradient"])
def test_rows_sum_to_one_and_what_cannot_come_stays_out(search):
    logits, relative, target = make_case(4, 10, 6, dtype=torch.float32)
    logits[:, 3] = -math.inf

    if search == "multiplicative":
        found = multiplicative_search(logits.log_softmax(dim=-1), relative, target, num_steps=5)
    else:
        found = gradient_search(logits, relative, target, num_steps=5, learning_rate=0.15)

    torch.testing.assert_close(found.exp().sum(dim=-1), torch.ones(4), atol=tolerance(relative, 5), rtol=0)
    assert (found[:, 3] == -math.inf).all() and found[:, [0, 1, 2, 4, 5, 6, 7, 8, 9]].isfinite().all()


@pytest.mark.parametrize("search", ["multiplicative", "gradient"])
def test_rows_of_their_own_give_what_shared_rows_give(search):
    logits, relative, target = make_case(3, 11, 7)
    own = relative.expand(3, -1, -1).contiguous()

    if search == "multiplicative":
        start = logits.log_softmax(dim=-1)
        found = [multiplicative_search(start, rows, target, num_steps=5) for rows in (relative, own)]
    else:
        found = [gradient_search(logits, rows, target, num_steps=5, learning_rate=0.2) for rows in (relative, own)]

    torch.testing.assert_close(found[0], found[1], atol=1e-10, rtol=0)


def test_the_multiplicative_search_survives_where_the_relative_probs_underflow():
    # The main model is sure of token 0, which never touches anchor 1; the target lies there alone.
    relative = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    start = torch.tensor([[0.0, -120.0, -121.0]])

    found = multiplicative_search(start, relative, torch.tensor([[0.5, 0.5]]), num_steps=5)

    assert found.isfinite().all()
    torch.testing.assert_close(found.exp().sum(dim=-1), torch.ones(1), atol=tolerance(relative, 5), rtol=0)


def test_tokens_past_num_free_keep_their_proportions():
    logits, relative, target = make_case(2, 9, 5)

    found = gradient_search(logits, relative, target, num_steps=5, learning_rate=0.15, num_free=6)

    decay = math.prod(1 - cosine_rate(0.15, step) * 0.01 for step in range(5))
    torch.testing.assert_close(found[:, 7] - found[:, 6], decay * (logits[:, 7] - logits[:, 6]))
    assert not torch.allclose(found[:, 1] - found[:, 0], decay * (logits[:, 1] - logits[:, 0]))


@pytest.mark.parametrize("search", [multiplicative_search, gradient_search])
def test_the_searches_run_in_inference_mode_and_leave_their_arguments_alone(search):
    options = {"learning_rate": 0.15} if search is gradient_search else {}
    with torch.inference_mode():
        logits, relative, target = make_case(2, 6, 4)
        before = [tensor.clone() for tensor in (logits, relative, target)]
        found = search(logits.log_softmax(dim=-1), relative, target, num_steps=3, **options)

    assert found.is_inference()
    for tensor, copy in zip((logits, relative, target), before, strict=True):
        assert torch.equal(tensor, copy)


def test_mix_and_pull_are_the_two_products_with_the_matrix():
    relative = torch.tensor([[0.25, 0.75], [1.0, 0.0], [0.5, 0.5]])

    assert mix(torch.tensor([[1.0, 2.0, 4.0]]), relative).tolist() == [[4.25, 2.75]]
    assert pull(torch.tensor([[1.0, 2.0]]), relative).tolist() == [[1.75, 1.0, 1.5]]
