"""Rows of attention models in one ragged cache: which slots they take, and when those are given back."""

from __future__ import annotations

import pytest
import torch

from deepen_llm.members.base import Branch
from deepen_llm.members.transformers.attention import AttentionRows
from tests.models import make_model


def make_rows(kind="llama"):
    model = make_model(kind)
    return model, AttentionRows(model, sliding_window=8 if kind == "mistral-sliding" else None)


@torch.inference_mode()
def recompute(model, ids):
    return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]


@torch.inference_mode()
def test_one_row_rolls_back_without_dead_slots():
    _, rows = make_rows()
    rows.extend({0: [1, 2, 3, 4]}, {})
    rows.rollback(0, 2)
    assert rows._cache.num_slots == 2
    rows.extend({0: [5]}, {})
    assert rows._cache.num_slots == 3
    assert rows._cache.lengths == [3]


@torch.inference_mode()
def test_dead_slots_are_squeezed_out():
    _, rows = make_rows()
    rows.extend({0: [1], 1: [2]}, {})
    for _ in range(100):
        rows.extend({0: [3]}, {})
    for _ in range(60):
        rows.extend({1: [3]}, {})
    assert rows._cache.num_slots < 170
    assert rows._cache.lengths == [101, 61]


@torch.inference_mode()
def test_releasing_the_last_row_frees_the_cache():
    _, rows = make_rows()
    rows.extend({0: [1, 2, 3], 1: [4]}, {})
    rows.release(0)
    assert rows._cache.num_slots == 1
    rows.release(1)
    assert rows._cache.num_rows == 0
    assert rows._cache.keys_values.get_seq_length() == 0


@torch.inference_mode()
def test_a_sliding_window_counts_tokens_and_not_dead_slots():
    model, rows = make_rows("mistral-sliding")
    contexts = {0: list(range(1, 13)), 1: [9]}
    rows.extend(contexts, {})
    for step in range(20):
        rows.extend({1: [step + 2]}, {})
        contexts[1].append(step + 2)
    got = rows.extend({0: [5], 1: [6]}, {}).logits
    torch.testing.assert_close(got[0], recompute(model, [*contexts[0], 5]), atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(got[1], recompute(model, [*contexts[1], 6]), atol=2e-4, rtol=1e-4)


@torch.inference_mode()
def test_a_row_that_begins_is_prefilled_apart_and_does_not_widen_the_pass_of_the_others():
    model, rows = make_rows()
    rows.extend({0: [1, 2, 3]}, {})
    widths, forward = [], model.forward
    model.forward = lambda **given: widths.append(tuple(given["input_ids"].shape)) or forward(**given)
    rows._model = model
    logits = rows.extend({1: list(range(4, 20)), 0: [9]}, {}).logits
    assert sorted(widths) == [(1, 1), (1, 16)]
    torch.testing.assert_close(logits[1], recompute(model, [1, 2, 3, 9]), atol=2e-4, rtol=1e-4)


@torch.inference_mode()
def test_rows_without_new_tokens_are_not_computed_where_they_are_many_or_the_pass_is_wide():
    model, rows = make_rows()
    contexts = {row: [row + 1, row + 2] for row in range(4)}
    rows.extend(contexts, {})
    shapes, forward = [], model.forward
    model.forward = lambda **given: shapes.append(tuple(given["input_ids"].shape)) or forward(**given)
    for fed in ({2: [5]}, {3: [6], 0: [7]}, {0: [8], 1: [9], 2: [5]}, {0: [8, 9, 3], 1: [9], 2: [5]}):
        contexts.update({row: contexts[row] + ids for row, ids in fed.items()})
        for row, got in zip(fed, rows.extend(fed, {}).logits, strict=True):
            torch.testing.assert_close(got, recompute(model, contexts[row]), atol=2e-4, rtol=1e-4)
    assert [shape for shape in shapes if shape[0] > 1 or shape[1] == 1] == [(1, 1), (2, 1), (4, 1), (3, 3)]


@torch.inference_mode()
def test_a_peek_leaves_the_cache_as_it_is():
    _, rows = make_rows()
    rows.extend({0: [1, 2, 3], 1: [4]}, {})
    slots, lengths = rows._cache.num_slots, list(rows._cache.lengths)
    rows.peek([Branch(0, 2, [5, 6, 7, 8]), Branch(1, 0, [9])])
    assert (rows._cache.num_slots, rows._cache.lengths) == (slots, lengths)


@pytest.mark.parametrize("kind", ["llama", "neox", "qwen2", "gpt2"])
def test_the_memory_of_a_token_is_its_keys_and_values_in_every_layer(kind):
    _, rows = make_rows(kind)
    with torch.inference_mode():
        rows.extend({0: [1, 2, 3, 4]}, {})
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in rows._cache.keys_values.layers)
    assert rows.bytes_per_token == held // 4


def test_releasing_a_row_that_never_ran_or_taking_nothing_back_does_nothing():
    _, rows = make_rows()
    rows.release(3)
    rows.rollback(3, 0)
    assert rows._cache.num_rows == 0


class OutOfMemory(RuntimeError):
    pass


def fail_in_layer(model, number):
    """Have the next pass end before a layer; the call gives what takes the hook away."""

    def fail(*_):
        raise OutOfMemory

    return model.model.layers[number].register_forward_pre_hook(fail)


@pytest.mark.parametrize("layer", [0, 1])
@torch.inference_mode()
def test_a_pass_that_ends_between_layers_leaves_the_rows_that_it_did_not_feed_as_they_were(layer):
    model, rows = make_rows()
    rows.extend({0: [1, 2, 3], 1: [4, 5]}, {})
    hook = fail_in_layer(model, layer)
    with pytest.raises(OutOfMemory):
        rows.extend({1: [6, 7]}, {})
    hook.remove()
    torch.testing.assert_close(rows.extend({0: [8]}, {}).logits[0], recompute(model, [1, 2, 3, 8]))
    rows.release(1)
    torch.testing.assert_close(rows.extend({0: [9], 2: [4]}, {}).logits[1], recompute(model, [4]))
    torch.testing.assert_close(rows.extend({0: [1]}, {}).logits[0], recompute(model, [1, 2, 3, 8, 9, 1]))


@torch.inference_mode()
def test_a_row_that_begins_and_fails_leaves_those_that_run_as_they_were():
    model, rows = make_rows()
    rows.extend({0: [1, 2, 3]}, {})
    hook = fail_in_layer(model, 1)
    with pytest.raises(OutOfMemory):
        rows.extend({1: [4]}, {})
    hook.remove()
    torch.testing.assert_close(rows.extend({0: [8]}, {}).logits[0], recompute(model, [1, 2, 3, 8]))


@pytest.mark.parametrize("call", ["extend", "peek", "rollback"])
@torch.inference_mode()
def test_rows_that_were_lost_say_so_and_do_not_begin_anew(call, monkeypatch):
    model, rows = make_rows()
    rows.extend({0: [1, 2, 3], 1: [4, 5]}, {})
    drop = rows._cache.drop

    def fail(index):
        rows._cache.keys_values.layers[0].keep_rows([1])
        raise OutOfMemory

    monkeypatch.setattr(rows._cache, "drop", fail)
    with pytest.raises(OutOfMemory):
        rows.release(1)
    monkeypatch.setattr(rows._cache, "drop", drop)
    calls = {
        "extend": lambda: rows.extend({0: [6]}, {}),
        "peek": lambda: rows.peek([Branch(0, 1, [6])]),
        "rollback": lambda: rows.rollback(0, 1),
    }
    with pytest.raises(RuntimeError, match="has cost this row its keys and values"):
        calls[call]()
    rows.release(0)
    torch.testing.assert_close(rows.extend({2: [4]}, {}).logits[0], recompute(model, [4]))


@torch.inference_mode()
def test_a_row_that_begins_beside_others_costs_them_nothing_until_it_is_fed_with_them():
    model, rows = make_rows()
    rows.extend({0: [1, 2], 1: [3]}, {})
    late = list(range(1, 31))
    for begin in range(0, 30, 10):
        logits = rows.extend({2: late[begin : begin + 10]}, {})[0]
        assert rows._cache.num_slots == 2
    rows.rollback(2, 3)
    rows.extend({2: late[27:]}, {})
    assert rows._cache.num_slots == 2
    torch.testing.assert_close(logits[0], recompute(model, late), atol=1e-4, rtol=1e-4)
    logits = rows.extend({0: [4], 1: [5], 2: [6]}, {})[0]
    for row, ids in enumerate(([1, 2, 4], [3, 5], [*late, 6])):
        torch.testing.assert_close(logits[row], recompute(model, ids), atol=1e-4, rtol=1e-4)
    assert rows._order == [0, 1, 2]


@torch.inference_mode()
def test_rows_that_began_together_may_go_on_without_each_other():
    model, rows = make_rows()
    rows.extend({0: [1, 2]}, {})
    rows.extend({1: [3, 4], 2: [5]}, {})
    rows.release(2)
    logits = rows.extend({1: [6]}, {})[0]
    torch.testing.assert_close(logits[0], recompute(model, [3, 4, 6]), atol=1e-4, rtol=1e-4)
    rows.extend({3: [7]}, {})
    peeked = rows.peek([Branch(3, 0, [8]), Branch(0, 1, [9])])
    torch.testing.assert_close(peeked[0], recompute(model, [7, 8]), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(peeked[1], recompute(model, [1, 9]), atol=1e-4, rtol=1e-4)
    rows.extend({4: [7]}, {})
    rows.release(4)
    for row in (0, 1, 3):
        rows.release(row)
    assert rows._cache.num_rows == 0 and not rows._apart


@torch.inference_mode()
def test_a_pass_that_fails_costs_the_rows_that_are_read_apart_and_no_others(monkeypatch):
    model, rows = make_rows()
    rows.extend({0: [1, 2]}, {})
    rows.extend({1: [3, 4]}, {})

    def fail(*_):
        raise MemoryError("no memory")

    monkeypatch.setattr(rows, "_run", fail)
    with pytest.raises(MemoryError):
        rows.extend({1: [5]}, {})
    monkeypatch.undo()
    with pytest.raises(RuntimeError, match="has cost this row its keys and values"):
        rows.extend({1: [5]}, {})
    rows.release(1)
    torch.testing.assert_close(rows.extend({0: [3]}, {})[0][0], recompute(model, [1, 2, 3]), atol=1e-4, rtol=1e-4)
