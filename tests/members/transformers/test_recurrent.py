"""Rows of recurrent models: states that go back to a snapshot, and how much is computed again."""

from __future__ import annotations

import pytest
import torch

from deepen_llm.members.base import Branch
from deepen_llm.members.transformers.recurrent import SNAPSHOT_EVERY_TOKENS, RecurrentRows
from tests.models import make_model


@pytest.fixture
def model():
    return make_model("mamba")


@torch.inference_mode()
def recompute(model, ids):
    return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]


def grow(rows, row, num_tokens):
    """A row of so many tokens, fed one at a time after the first two."""
    ids = [token_id % 60 + 1 for token_id in range(num_tokens)]
    rows.extend({row: ids[:2]}, {})
    for token_id in ids[2:]:
        rows.extend({row: [token_id]}, {})
    return ids


def count_fed(rows):
    """A list to which every forward pass adds how many tokens it is fed."""
    fed, model = [], rows._model
    rows._model = lambda **given: fed.append(given["input_ids"].shape[1]) or model(**given)
    rows._model.device, rows._model.config = model.device, model.config
    return fed


@torch.inference_mode()
def test_a_row_goes_back_to_its_snapshot_and_runs_again_from_there(model):
    rows = RecurrentRows(model)
    ids = grow(rows, 0, SNAPSHOT_EVERY_TOKENS + 6)
    taken = rows._rows[0].num_in_snapshot
    assert SNAPSHOT_EVERY_TOKENS <= taken < len(ids)
    rows.rollback(0, 2)
    fed = count_fed(rows)
    got = rows.extend({0: [9]}, {}).logits[0]
    assert fed == [1] * (len(ids) - 2 - taken + 1)
    torch.testing.assert_close(got, recompute(model, [*ids[:-2], 9]), atol=2e-4, rtol=1e-4)


@torch.inference_mode()
def test_a_row_goes_back_to_the_beginning_where_the_snapshot_is_too_young(model):
    rows = RecurrentRows(model)
    ids = grow(rows, 0, SNAPSHOT_EVERY_TOKENS + 6)
    kept = rows._rows[0].num_in_snapshot - 1
    rows.rollback(0, len(ids) - kept)
    assert rows._rows[0].snapshot is None
    fed = count_fed(rows)
    got = rows.extend({0: [9]}, {}).logits[0]
    assert fed == [kept + 1]
    torch.testing.assert_close(got, recompute(model, [*ids[:kept], 9]), atol=2e-4, rtol=1e-4)


@torch.inference_mode()
def test_a_peek_leaves_state_and_snapshot_as_they_are(model):
    rows = RecurrentRows(model)
    ids = grow(rows, 0, SNAPSHOT_EVERY_TOKENS + 3)
    state, taken = rows._rows[0], rows._rows[0].num_in_snapshot
    got = rows.peek([Branch(0, 1, [5, 6]), Branch(0, len(ids) - 1, [7])])
    for logits, context in zip(got, ([*ids[:-1], 5, 6], [ids[0], 7]), strict=True):
        torch.testing.assert_close(logits, recompute(model, context), atol=2e-4, rtol=1e-4)
    assert rows._rows[0] is state and state.ids == ids and state.num_in_snapshot == taken
    torch.testing.assert_close(rows.extend({0: [3]}, {}).logits[0], recompute(model, [*ids, 3]), atol=2e-4, rtol=1e-4)


def test_taking_nothing_back_and_releasing_a_row_that_never_ran_do_nothing(model):
    rows = RecurrentRows(model)
    rows.rollback(4, 0)
    rows.release(4)
    assert rows.bytes_per_token is None


@torch.inference_mode()
def test_a_row_begins_behind_a_state_of_another_that_is_not_too_young(model):
    rows = RecurrentRows(model)
    ids = grow(rows, 0, SNAPSHOT_EVERY_TOKENS + 6)
    in_snapshot = rows._rows[0].num_in_snapshot
    assert rows.fork(0, 1, 0) == 0
    assert rows.fork(0, 2, 2) == len(ids) - in_snapshot
    assert rows.fork(0, 3, len(ids) - in_snapshot + 1) is None
    for row, num in ((1, len(ids)), (2, in_snapshot)):
        got = rows.extend({row: [9]}, {}).logits[0]
        torch.testing.assert_close(got, recompute(model, [*ids[:num], 9]), atol=2e-4, rtol=1e-4)


@torch.inference_mode()
def test_a_parked_row_counts_its_states(model):
    rows = RecurrentRows(model)
    rows.extend({0: [1, 2]}, {})
    alone = rows.park(0)
    grow(rows, 1, SNAPSHOT_EVERY_TOKENS + 6)
    assert alone > 0 and rows.park(1) == 2 * alone
