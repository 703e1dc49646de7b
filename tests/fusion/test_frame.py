"""What is the same under every fusion method."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deepen_llm.fusion.base import Distributions, FusionMethod, Step
from deepen_llm.fusion.frame import FusionFrame
from deepen_llm.fusion.tokens import CanonicalTokens
from tests.fusion.fused import Fused
from tests.rounding import rounding

END = 4
LOGITS = [torch.tensor([[2.0, 1.0, 0.0, 0.5, -1.0], [0.0, 0.0, 0.0, 0.0, 3.0]]), torch.randn(2, 5)]


class Says(FusionMethod):
    """Gives what it was told to, whatever the step."""

    def __init__(self, fused: Tensor) -> None:
        self.fused, self.steps = fused, []

    def combine(self, step: Step) -> Tensor:
        self.steps.append(step)
        return self.fused


class MayBeEmpty(Says):
    may_be_empty = True


SAID = torch.tensor([[0.1, 0.2, 0.3, 0.15, 0.25], [0.5, 0.2, 0.1, 0.1, 0.1]]).log()


def make(method=None, **settings):
    return Fused(method or Says(SAID), [list(range(5))] * 2, **{"eos_ids": (END,), **settings})


def test_what_the_method_makes_is_the_answer():
    assert torch.equal(make().fuse(LOGITS), SAID)


@pytest.mark.parametrize("trust", [0.0, 0.3, 1.0])
def test_trust_goes_from_the_main_model_to_the_fused_in_logprobs(trust):
    alone = LOGITS[0].double().log_softmax(dim=-1)
    expected = torch.log_softmax((1 - trust) * alone + trust * SAID.double(), dim=-1)
    found = make(trust=trust).fuse(LOGITS)
    torch.testing.assert_close(found.double().exp(), expected.exp(), atol=rounding(5, 3), rtol=0)


def test_without_trust_the_method_is_not_even_asked():
    method = Says(SAID)
    make(method, trust=0.0).fuse(LOGITS)
    assert not method.steps


def test_a_row_that_the_main_model_would_end_is_left_to_it():
    alone = LOGITS[0].log_softmax(dim=-1)
    found = make(main_ends=True).fuse(LOGITS)
    assert torch.equal(found[0], SAID[0]) and torch.equal(found[1], alone[1])


def test_rows_in_which_the_main_model_is_alone_are_exactly_its_own():
    found = make().fuse(LOGITS, torch.tensor([[0.9, 0.1], [1.0, 0.0]]))
    assert torch.equal(found[0], SAID[0]) and torch.equal(found[1], LOGITS[0].log_softmax(dim=-1)[1])


@pytest.mark.parametrize("trust", [0.5, 1.0])
def test_a_row_in_which_nothing_was_fused_is_the_main_models(trust):
    said = SAID.clone()
    said[0] = -torch.inf
    found = make(MayBeEmpty(said), trust=trust).fuse(LOGITS)
    assert torch.equal(found[0], LOGITS[0].log_softmax(dim=-1)[0])
    assert not found.isnan().any()


def test_an_ensemble_of_one_has_no_method():
    tokens = CanonicalTokens.build([0, 1, 2, 3, -1], torch.device("cpu"))
    frame = FusionFrame(None, [tokens], 0)
    logprobs = frame.read_main(LOGITS[0])
    step = Step.build(Distributions(0, logprobs, logprobs.exp(), [], 1), torch.ones(2, 1))
    assert frame.fuse(step, logprobs) is logprobs
    assert (logprobs[:, 4] == -torch.inf).all() and frame.num_bytes == tokens.num_bytes


@pytest.mark.parametrize("settings", [{"trust": 0.0}, {"trust": 0.3}, {"main_ends": True}])
def test_what_is_the_main_models_alone_is_what_it_said_whatever_the_step_holds_in_its_place(settings):
    """Inside a word, the step holds the main model's distribution as it is weighed."""
    fused, alone = make(**settings), LOGITS[0].log_softmax(dim=-1)
    weighed = torch.full((2, 5), 0.2)
    given = Distributions(0, weighed.log(), weighed, [fused.frame.read_tokens(1, LOGITS[1])], 2)
    found = fused.frame.fuse(Step.build(given, torch.full((2, 2), 0.5)), alone)
    assert torch.equal(found, make(**settings).fuse(LOGITS))


def test_a_namesakes_tokens_are_the_main_models():
    same = [0, 0, 2, 3, 4]
    frame = FusionFrame(Says(SAID), [CanonicalTokens.build(same, torch.device("cpu"))] * 2, 0)
    given = frame.read_namesake(1, LOGITS[1])
    assert given.own is None and (given.projected[:, 1] == 0).all()
    torch.testing.assert_close(given.projected.sum(dim=-1), torch.ones(2), atol=rounding(5, 2), rtol=0)
