"""Ragged rows against a full recomputation of every context, for several architectures."""

from __future__ import annotations

import random

import pytest
import torch

from deepen_llm.members.transformers.attention import AttentionRows
from deepen_llm.members.transformers.recurrent import RecurrentRows
from tests.models import make_model

ATTENTION = ["llama", "neox", "qwen2", "gpt2", "bloom", "mistral-sliding"]


def make_rows(kind):
    model = make_model(kind)
    if kind == "mamba":
        return model, RecurrentRows(model)
    return model, AttentionRows(model, sliding_window=8 if kind == "mistral-sliding" else None)


@torch.inference_mode()
def recompute(model, ids):
    return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]


@pytest.mark.parametrize("kind", [*ATTENTION, "mamba"])
@torch.inference_mode()
def test_rows_that_join_grow_roll_back_and_leave_equal_recomputation(kind):
    rng = random.Random(7)
    model, rows = make_rows(kind)
    contexts: dict[int, list[int]] = {}
    next_row = 0
    for _ in range(60):
        event = rng.random()
        if event < 0.15 and contexts:
            gone = rng.choice(list(contexts))
            rows.release(gone)
            del contexts[gone]
        for row, ids in contexts.items():
            if rng.random() < 0.3 and len(ids) > 4:
                taken = rng.randint(1, 3)
                rows.rollback(row, taken)
                del ids[-taken:]
        fed = {row: rng.choices(range(64), k=rng.randint(1, 3)) for row in contexts if rng.random() < 0.8}
        if (event > 0.7 and len(contexts) < 5) or not contexts:
            fed[next_row] = rng.choices(range(64), k=rng.randint(1, 12))
            contexts[next_row] = []
            next_row += 1
        if not fed:
            continue
        logits = rows.extend(fed, {}).logits
        for row, ids in fed.items():
            contexts[row] += ids
        for row, got in zip(fed, logits, strict=True):
            torch.testing.assert_close(got, recompute(model, contexts[row]), atol=2e-4, rtol=1e-4)
        branches = []
        for row in rng.choices(list(contexts), k=rng.randint(1, 4)):
            taken = rng.randint(0, min(3, len(contexts[row]) - 1))
            branches.append((row, taken, rng.choices(range(64), k=rng.randint(1, 3))))
        for (row, taken, ids), got in zip(branches, rows.peek(branches), strict=True):
            expected = recompute(model, contexts[row][: len(contexts[row]) - taken] + ids)
            torch.testing.assert_close(got, expected, atol=2e-4, rtol=1e-4)
