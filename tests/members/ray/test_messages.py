"""What crosses the network, and how many bytes it takes."""

from __future__ import annotations

import pickle

import pytest
import torch

from deepen_llm.members.ray.messages import Table, Told
from deepen_llm.members.summary import NUM_TOLD, Summary

NUM_LOGITS = 151_936
MOST_BYTES = 13_000


def draw_ids(num_rows, num, num_logits):
    generator = torch.Generator().manual_seed(num_rows)
    rows = [torch.randperm(num_logits, generator=generator)[:num] for _ in range(num_rows)]
    return torch.stack(rows).to(torch.int32)


@pytest.mark.parametrize(
    ("num_rows", "num", "num_logits"),
    [(1, 1, 1), (1, 1, 2), (3, 7, 7), (3, 300, 300), (8, 256, 50_000), (2, 3, 200_000)],
)
def test_what_is_packed_comes_out_the_same(num_rows, num, num_logits):
    ids = draw_ids(num_rows, num, num_logits)
    logprobs = torch.randn(ids.shape).log_softmax(-1)
    measured = {3: torch.tensor([-1.5, -2.25]), 0: torch.tensor([])}
    summary, found = pickle.loads(pickle.dumps(Told.pack(Summary(ids, logprobs), measured))).unpack()
    assert summary.ids.dtype == torch.int32 and summary.logprobs.dtype == torch.float32
    assert torch.equal(summary.spread(num_logits), Summary(ids, logprobs).spread(num_logits))
    assert torch.equal(summary.ids, ids.sort(dim=-1).values)
    assert found.keys() == measured.keys() and all(torch.equal(found[row], measured[row]) for row in measured)


@pytest.mark.parametrize(
    ("ids", "width"), [([0, 255], 1), ([5, 261], 2), ([1, 65_536], 2), ([0, 65_536], 3), ([1 << 24], 4)]
)
def test_ids_take_as_many_bytes_as_the_widest_gap(ids, width):
    told = Told.pack(Summary(torch.tensor([ids], dtype=torch.int32), torch.zeros(1, len(ids))), {})
    assert len(told.gaps) == width * len(ids)
    assert told.unpack()[0].ids.tolist() == [ids]


def test_numbers_that_are_none_come_through():
    summary = Summary(torch.tensor([[0, 1]], dtype=torch.int32), torch.tensor([[float("nan"), float("-inf")]]))
    logprobs = Told.pack(summary, {}).unpack()[0].logprobs
    assert logprobs[0, 0].isnan() and logprobs[0, 1] == float("-inf")


def test_a_pass_of_eight_rows_takes_at_most_thirteen_kilobytes():
    logits = torch.randn(8, NUM_LOGITS, generator=torch.Generator().manual_seed(0))
    told = Told.pack(Summary.of_logits(logits), {row: torch.zeros(8) for row in range(8)})
    assert NUM_TOLD == 256
    assert len(pickle.dumps(told, protocol=5)) <= MOST_BYTES


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_rows_of_embeddings_are_read_in_their_own_format(dtype):
    rows = torch.randn(5, 3).to(dtype)
    piece = rows.view(torch.uint8).numpy().tobytes()
    assert torch.equal(Table(5, 3, dtype).unpack(piece), rows)
