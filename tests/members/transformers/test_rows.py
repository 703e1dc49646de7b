"""Ragged rows against a full recomputation of every context, for several architectures."""

from __future__ import annotations

import random

import pytest
import torch

from deepen_llm.members.base import Branch
from deepen_llm.members.transformers.attention import AttentionRows
from deepen_llm.members.transformers.recurrent import RecurrentRows
from tests.members.transformers.growing_cache import GrowingCache
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


class GrowingRows(AttentionRows):
    """Rows in tensors that grow by concatenation, which all are computed in every pass."""

    def __init__(self, model, sliding_window):
        super().__init__(model, sliding_window, records=False)
        self._cache = GrowingCache()

    def _begin(self, rows):
        return GrowingCache()


@pytest.mark.parametrize("kind", ATTENTION)
@torch.inference_mode()
def test_what_is_written_in_place_equals_what_grows_by_concatenation_exactly(kind):
    rng = random.Random(11)
    window, model = 8 if kind == "mistral-sliding" else None, make_model(kind)
    rows, plain = AttentionRows(model, window, records=False), GrowingRows(model, window)
    lengths: dict[int, int] = {}
    for step in range(80):
        for row in [row for row in lengths if rng.random() < 0.05]:
            rows.release(row)
            plain.release(row)
            del lengths[row]
        for row in [row for row in lengths if rng.random() < 0.3]:
            taken = rng.randint(1, min(lengths[row], 4))
            rows.rollback(row, taken)
            plain.rollback(row, taken)
            lengths[row] -= taken
        fed = {row: rng.choices(range(64), k=rng.randint(1, 4)) for row in lengths if rng.random() < 0.8}
        if rng.random() < 0.2 or not lengths:
            fed[step] = rng.choices(range(64), k=rng.choice([2, 30, 70]))
        fed = {row: ids for row, ids in fed.items() if lengths.get(row, 0) + len(ids) < 250}
        for row, ids in fed.items():
            lengths[row] = lengths.get(row, 0) + len(ids)
        if not fed:
            continue
        told = {row: rng.randint(1, len(ids)) for row, ids in fed.items()}
        if step % 2:
            assert torch.equal(rows.extend_each(fed, told), plain.extend_each(fed, told))
        else:
            assert torch.equal(rows.extend(fed, {}).logits, plain.extend(fed, {}).logits)
        branches = [Branch(row, rng.randint(0, lengths[row] - 1), [5, 6]) for row in fed]
        assert torch.equal(rows.peek(branches), plain.peek(branches))


@pytest.mark.parametrize("kind", [*ATTENTION, "mamba"])
@torch.inference_mode()
def test_rows_that_begin_with_what_others_hold_equal_recomputation(kind):
    rng = random.Random(11)
    model, rows = make_rows(kind)
    running: dict[int, list[int]] = {0: rng.choices(range(64), k=9)}
    parked: dict[int, list[int]] = {}
    rows.extend(running, {})
    for new in range(1, 40):
        source = rng.choice([*running, *parked])
        held = running.get(source) or parked[source]
        num_back = rng.randint(0, len(held) - 1)
        fed = {row: rng.choices(range(64), k=rng.randint(1, 3)) for row in running if rng.random() < 0.5}
        if (left_out := rows.fork(source, new, num_back)) is not None:
            running[new] = held[: len(held) - left_out]
            fed[new] = held[len(held) - left_out : len(held) - num_back] + rng.choices(range(64), k=rng.randint(1, 4))
            assert left_out >= num_back
        for row, logits in zip(fed, rows.extend(fed, {}).logits if fed else (), strict=True):
            running[row] = running[row] + fed[row]
            torch.testing.assert_close(logits, recompute(model, running[row]), atol=2e-4, rtol=1e-4)
        if len(running) > 3:
            row = rng.choice(list(running))
            assert rows.park(row) > 0
            parked[row] = running.pop(row)
        if len(parked) > 3:
            gone = rng.choice(list(parked))
            rows.release(gone)
            del parked[gone]


@torch.inference_mode()
def test_rows_that_begin_with_the_same_row_are_fed_in_one_pass_and_widen_no_other():
    model, rows = make_rows("llama")
    widths = []
    rows.extend({0: list(range(1, 21)), 1: [5, 6]}, {})
    rows.park(0)
    for new, num_back in ((2, 0), (3, 4), (4, 19)):
        assert rows.fork(0, new, num_back) == num_back
    rows._model = lambda **given: widths.append(tuple(given["input_ids"].shape)) or model(**given)
    rows.extend({1: [7], 2: [8, 9], 3: [8], 4: [9, 9]}, {})
    assert widths == [(1, 1), (3, 2)]


@torch.inference_mode()
def test_a_parked_row_takes_its_own_tokens_memory_and_no_part_in_passes():
    _, rows = make_rows("llama")
    rows.extend({0: list(range(1, 41)), 1: [5, 6]}, {})
    rows.extend({1: [7]}, {})
    assert rows.park(1) == 3 * rows.bytes_per_token
    assert rows.park(0) == 40 * rows.bytes_per_token
    assert rows._cache.num_rows == 0
    for row in (0, 1):
        rows.release(row)
    assert 0 not in rows._aside and 1 not in rows._aside
