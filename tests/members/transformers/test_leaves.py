"""Which branches of a pass are run, and where the others are told."""

from __future__ import annotations

import pytest
import torch

from deepen_llm.members.base import Branch
from deepen_llm.members.transformers import TransformersMember
from deepen_llm.members.transformers.leaves import find_leaves
from tests import toy_tokenizers
from tests.models import make_model
from tests.rounding import rounding


def test_a_branch_that_another_goes_on_with_is_told_on_its_way():
    branches = [Branch(0, 1, (5,)), Branch(0, 1, [5, 6, 7]), Branch(0, 1, (5, 6)), Branch(0, 1, (8,))]
    leaves, places = find_leaves(branches)
    assert leaves == [branches[1], branches[3]]
    assert places == [(0, 0), (0, 2), (0, 1), (1, 0)]


@pytest.mark.parametrize("other", [Branch(1, 1, (5,)), Branch(0, 2, (5,)), Branch(0, 1, (6,))])
def test_a_branch_of_another_row_or_place_or_token_is_run(other):
    assert find_leaves([Branch(0, 1, (5, 6)), other]).branches == [Branch(0, 1, (5, 6)), other]


def test_the_same_branch_twice_is_run_once():
    assert find_leaves([Branch(3, 0, (5,))] * 2) == ([Branch(3, 0, (5,))], [(0, 0), (0, 0)])


@pytest.mark.parametrize("architecture", ["llama", "neox", "gpt2"])
def test_branches_of_one_pass_are_told_what_each_is_told_alone(architecture):
    tokenizer = toy_tokenizers.byte_level_bpe()
    member = TransformersMember(make_model(architecture, vocab_size=len(tokenizer), seed=1), tokenizer, name="one")
    rows = [member.open(), member.open()]
    with torch.inference_mode():
        member.extend({rows[0]: [11, 12, 13, 14, 15], rows[1]: [21, 22]})
    branches = [
        Branch(rows[0], 2, (31,)),
        Branch(rows[0], 2, (31, 32, 33)),
        Branch(rows[1], 0, (31, 32)),
        Branch(rows[0], 0, (41,)),
        Branch(rows[0], 2, (31, 32)),
    ]
    with torch.inference_mode():
        together = member.peek(branches)
        alone = torch.cat([member.peek([branch]) for branch in branches])
    tolerance = rounding(256, num_steps=12, magnitude=float(alone.abs().max()))
    torch.testing.assert_close(together, alone, atol=tolerance, rtol=0)
