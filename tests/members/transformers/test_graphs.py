"""Decode graphs: on the CPU, where the function itself stands for its graph, their buffers, padding and masks."""

from __future__ import annotations

import random

import pytest
import torch

from deepen_llm.members.base import Branch
from deepen_llm.members.transformers.attention import AttentionRows
from deepen_llm.members.transformers.graphs import DecodeGraphs, run_directly
from deepen_llm.members.transformers.slots import BLOCK_SLOTS
from tests.models import make_model

GRAPHED = ["llama", "neox", "qwen2", "gpt2", "mistral-sliding"]
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _inference():
    with torch.inference_mode():
        yield


def make_rows(kind="llama", capture=run_directly):
    window, model = 8 if kind == "mistral-sliding" else None, make_model(kind)
    rows = AttentionRows(model, window, records=False)
    rows._graphs = DecodeGraphs(model, CPU, window, capture=capture)
    return rows, AttentionRows(model, window, records=False)


def check_same(rows, plain, fed):
    torch.testing.assert_close(rows.extend(fed, {}).logits, plain.extend(fed, {}).logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", GRAPHED)
def test_graphs_give_what_the_model_gives_while_rows_join_roll_back_and_leave(kind, monkeypatch):
    rng = random.Random(5)
    rows, plain = make_rows(kind)
    monkeypatch.setattr(rows._graphs._checks, "is_due", lambda _: False)
    lengths: dict[int, int] = {}
    for step in range(70):
        fed = {row: rng.choices(range(64), k=1) for row in lengths if rng.random() < 0.8}
        if step % 9 == 0:
            fed[step] = rng.choices(range(64), k=rng.randint(1, 6))
        if not fed:
            continue
        check_same(rows, plain, fed)
        lengths.update({row: lengths.get(row, 0) + len(ids) for row, ids in fed.items()})
        for row in [row for row in lengths if rng.random() < 0.1 and lengths[row] > 1]:
            rows.rollback(row, 1)
            plain.rollback(row, 1)
            lengths[row] -= 1
        for row in [row for row in lengths if rng.random() < 0.04]:
            rows.release(row)
            plain.release(row)
            del lengths[row]
    assert not rows._graphs._is_refused
    assert rows._graphs._graphs or kind == "mistral-sliding"  # beyond whose window the model runs


def test_rows_are_padded_and_each_padded_number_is_captured_once():
    captured = []
    rows, plain = make_rows(capture=lambda function: captured.append(function) or function)
    held = 0
    for num in (1, 2, 3, 4, 5, 4, 3, 5):
        for row in range(held, num):
            check_same(rows, plain, {row: [1, 2]})
        for row in range(num, held):
            rows.release(row)
            plain.release(row)
        held = num
        check_same(rows, plain, {row: [3] for row in range(held)})
    assert len(captured) == 5 and set(rows._graphs._graphs) == {4, 8}  # 1, 2, 4, 8, and in the new room 4 once more


def test_graphs_are_captured_anew_where_the_cache_moves():
    captured = []
    rows, plain = make_rows(capture=lambda function: captured.append(function) or function)
    for one in (rows, plain):
        one.extend({0: [1] * (BLOCK_SLOTS - 2)}, {})
    for token in range(4):
        check_same(rows, plain, {0: [token]})
    assert len(captured) == 2


def test_peeks_and_passes_of_several_tokens_use_no_graph():
    rows, plain = make_rows(capture=lambda _: pytest.fail("captured"))
    check_same(rows, plain, {0: [1, 2, 3]})
    check_same(rows, plain, {0: [1, 2]})
    assert torch.equal(rows.peek([Branch(0, 1, [4])]), plain.peek([Branch(0, 1, [4])]))


def test_what_is_not_held_does_not_reach_the_logits_though_it_is_no_number():
    rows, plain = make_rows()
    for one in (rows, plain):
        one.extend({0: [1, 2], 1: [3]}, {})
    for room in rows._cache.rooms:
        room[:, :, rows._cache.num_slots :] = torch.nan
    check_same(rows, plain, {0: [5], 1: [6]})
    check_same(rows, plain, {0: [5]})


@pytest.mark.parametrize("fault", ["other logits", "no capture"])
def test_graphs_that_fail_are_dropped_and_the_model_runs(fault, caplog):
    def capture(function):
        if fault == "no capture":
            raise RuntimeError("operation not permitted when stream is capturing")
        return lambda: function() + 0.01

    rows, plain = make_rows(capture=capture)
    check_same(rows, plain, {0: [1, 2], 1: [3]})
    with caplog.at_level("INFO"):
        check_same(rows, plain, {0: [5], 1: [6]})
    assert rows._graphs._is_refused and "one operation at a time" in caplog.text
    check_same(rows, plain, {0: [5], 1: [6]})


def test_models_on_the_cpu_have_no_graphs():
    assert AttentionRows(make_model())._graphs is None


@pytest.mark.gpu
@pytest.mark.parametrize("kind", GRAPHED)
def test_graphs_on_a_gpu_give_what_the_model_gives(kind):
    model, window = make_model(kind).to("cuda"), 8 if kind == "mistral-sliding" else None
    rows, plain = AttentionRows(model, window), AttentionRows(model, window, records=False)
    assert rows._graphs is not None
    for one in (rows, plain):
        one.extend({0: [1, 2, 3], 1: [4], 2: [5, 6]}, {})
    for token in range(40):
        fed = {row: [token + row] for row in range(3) if (token + row) % 4}
        expected = plain.extend(fed, {}).logits
        torch.testing.assert_close(rows.extend(fed, {}).logits, expected, atol=1e-3, rtol=1e-3)
    assert not rows._graphs._is_refused
