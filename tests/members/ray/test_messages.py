"""What crosses the network, and how many bytes it takes."""

from __future__ import annotations

import pickle

import pytest
import torch

from deepen_llm.members.ray.messages import Table, Told
from deepen_llm.members.summary import NUM_TOLD, Summary

NUM_LOGITS = 151_936
MOST_BYTES = 16_000


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (8, 256)])
def test_what_is_packed_comes_out_the_same(shape):
    ids = torch.randint(0, 1 << 24, shape, dtype=torch.int32, generator=torch.Generator().manual_seed(0))
    ids[0, 0] = (1 << 24) - 1
    logprobs = torch.randn(shape).log_softmax(-1)
    measured = {3: torch.tensor([-1.5, -2.25]), 0: torch.tensor([])}
    summary, found = pickle.loads(pickle.dumps(Told.pack(Summary(ids, logprobs), measured))).unpack()
    assert summary.ids.dtype == torch.int32 and torch.equal(summary.ids, ids)
    assert summary.logprobs.dtype == torch.float32 and torch.equal(summary.logprobs, logprobs)
    assert found.keys() == measured.keys() and all(torch.equal(found[row], measured[row]) for row in measured)


def test_numbers_that_are_none_come_through():
    summary = Summary(torch.tensor([[0, 1]], dtype=torch.int32), torch.tensor([[float("nan"), float("-inf")]]))
    logprobs = Told.pack(summary, {}).unpack()[0].logprobs
    assert logprobs[0, 0].isnan() and logprobs[0, 1] == float("-inf")


def test_a_step_of_eight_rows_takes_at_most_sixteen_kilobytes():
    told = Told.pack(Summary.of_logits(torch.randn(8, NUM_LOGITS)), {row: torch.zeros(8) for row in range(8)})
    assert NUM_TOLD == 256
    assert len(pickle.dumps(told, protocol=5)) <= MOST_BYTES


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_rows_of_embeddings_are_read_in_their_own_format(dtype):
    rows = torch.randn(5, 3).to(dtype)
    piece = rows.view(torch.uint8).numpy().tobytes()
    assert torch.equal(Table(5, 3, dtype).unpack(piece), rows)
