"""Recorded passes: the same logits as the model's, whatever the shapes, and the model itself where that is not sure."""

from __future__ import annotations

import random

import pytest
import torch

from deepen_llm import MemberConfig
from deepen_llm.members.base import Branch
from deepen_llm.members.transformers import recorded
from deepen_llm.members.transformers.attention import AttentionRows
from deepen_llm.members.transformers.recorded import MAX_WIDTH, RECORDED_AFTER, Kind
from tests import toy_tokenizers
from tests.models import make_model

RECORDABLE = ["llama", "neox", "qwen2", "gpt2", "mistral-sliding"]
ONE = Kind(is_wide=False, names=("input_ids", "position_ids"))


@pytest.fixture(autouse=True)
def _inference():
    with torch.inference_mode():
        yield


def make_rows(kind="llama", **settings):
    return AttentionRows(make_model(kind), 8 if kind == "mistral-sliding" else None, **settings)


def record(rows, num_tokens=RECORDED_AFTER):
    """Feed row 0 a prompt and then so many tokens one by one."""
    rows.extend({0: [1, 2]}, {})
    for _ in range(num_tokens):
        rows.extend({0: [3]}, {})


def assert_same(rows, plain):
    """Of both, what comes after another token."""
    logits = [one.extend({0: [5]}, {}).logits for one in (rows, plain)]
    torch.testing.assert_close(*logits, atol=1e-5, rtol=0)


def count_passes(rows):
    """Count the passes of the model's own code from now on."""
    passes, forward = [], rows._model.forward

    def run(**given):
        passes.append(given)
        return forward(**given)

    rows._model.forward = run
    return passes


@pytest.mark.parametrize("kind", RECORDABLE)
def test_recorded_passes_give_what_the_model_gives_for_all_shapes(kind, monkeypatch):
    monkeypatch.setattr(recorded, "RECORDED_AFTER", 1)
    monkeypatch.setattr(recorded.Checks, "is_due", lambda *_: False)
    rng = random.Random(3)
    rows, plain = make_rows(kind), make_rows(kind, records=False)
    lengths: dict[int, int] = {}
    for step in range(60):
        fed = {row: rng.choices(range(64), k=rng.choice([1, 1, 1, 2, 5])) for row in lengths if rng.random() < 0.8}
        if step % 12 == 0:
            fed[step] = rng.choices(range(64), k=rng.randint(1, 4))
        if rng.random() < 0.4:
            fed = {row: ids[:1] for row, ids in fed.items()}
        if not fed:
            continue
        torch.testing.assert_close(rows.extend(fed, {}).logits, plain.extend(fed, {}).logits, atol=1e-4, rtol=1e-4)
        lengths.update({row: lengths.get(row, 0) + len(ids) for row, ids in fed.items()})
        branches = [Branch(row, rng.randint(0, lengths[row] - 1), [5, 6][: rng.randint(1, 2)]) for row in fed]
        torch.testing.assert_close(rows.peek(branches), plain.peek(branches), atol=1e-4, rtol=1e-4)
        for row in [row for row in lengths if rng.random() < 0.2 and lengths[row] > 1]:
            rows.rollback(row, 1)
            plain.rollback(row, 1)
            lengths[row] -= 1
    made = rows._recorded._recordings
    assert any(recording.run is not None for recording in made.values())
    assert not any(recording.is_refused for recording in made.values())


def test_after_some_passes_the_model_runs_only_where_a_recording_is_compared_with_it():
    rows = make_rows()
    record(rows)
    passes = count_passes(rows)
    for _ in range(64):
        rows.extend({0: [3]}, {})
    assert len(passes) == 7  # the 1st, 2nd, 4th, ..., 64th
    rows.peek([Branch(0, 1, [4]), Branch(0, 1, [5])])
    assert len(passes) == 8  # two rows for the first time
    rows.peek([Branch(0, 1, [6]), Branch(0, 1, [7])])
    assert len(passes) == 8


def test_a_recording_that_gives_other_logits_is_dropped_and_the_models_are_given(caplog):
    rows, plain = make_rows(), make_rows(records=False)
    record(rows)
    record(plain)
    recording = rows._recorded._recordings[ONE]
    run = recording.run
    recording.run = lambda *tensors: run(*tensors) + 0.01
    with caplog.at_level("INFO"):
        logits = rows.extend({0: [4]}, {}).logits
    torch.testing.assert_close(logits, plain.extend({0: [4]}, {}).logits, atol=1e-5, rtol=0)
    assert recording.is_refused and recording.run is None
    assert "run by the model and not by a recording: it gave other logits" in caplog.text
    assert_same(rows, plain)


@pytest.mark.parametrize(
    "depend",
    [
        lambda states: states * float(states.sum() > -1e9),
        lambda states: states[states[..., 0] < 1e9].view(states.shape),
        lambda states: states + 0 * torch.rand(1),
        lambda states: states + 0 * len(states.tolist()),
        lambda states: states.nonzero().sum() * 0 + states,
    ],
    ids=["a number read back", "a mask as index", "chance", "a list", "a shape by numbers"],
)
def test_passes_that_depend_on_what_tensors_hold_are_left_to_the_model(depend):
    rows = make_rows()
    rows._model.model.norm.register_forward_hook(lambda _, __, states: depend(states))
    record(rows, RECORDED_AFTER + 3)
    assert rows._recorded._recordings[ONE].is_refused


def test_what_fails_while_it_is_recorded_is_left_to_the_model():
    rows, plain = make_rows(), make_rows(records=False)

    def fail(*_):
        if torch.jit.is_tracing():
            raise ValueError("no tracing here")

    rows._model.model.norm.register_forward_hook(fail)
    record(rows, RECORDED_AFTER + 3)
    record(plain, RECORDED_AFTER + 3)
    assert rows._recorded._recordings[ONE].is_refused
    assert_same(rows, plain)


def test_a_recorded_pass_that_fails_leaves_the_rows_as_they_were():
    rows, plain = make_rows(), make_rows(records=False)
    record(rows)
    record(plain)
    recording = rows._recorded._recordings[ONE]
    run, recording.run = recording.run, lambda *_: torch.zeros(1)[5]
    with pytest.raises(IndexError):
        rows.extend({0: [4]}, {})
    recording.run = run
    assert_same(rows, plain)


def test_prefills_and_rows_beyond_a_window_are_left_to_the_model():
    rows = make_rows("mistral-sliding")
    for _ in range(3 * RECORDED_AFTER):
        rows.extend({0: [1] * (MAX_WIDTH + 1)}, {})
        rows.rollback(0, MAX_WIDTH + 1)
    rows.extend({0: [1] * 8}, {})
    for _ in range(3 * RECORDED_AFTER):
        rows.extend({0: [1]}, {})
    assert not rows._recorded._recordings


@pytest.mark.parametrize("change", ["eager attention", "moved", "no positions", "another type", "told not to"])
def test_models_that_cannot_be_recorded_are_not(change):
    model = make_model("bloom" if change == "no positions" else "llama")
    if change == "eager attention":
        model.set_attn_implementation("eager")
    elif change == "moved":
        model.model.layers[0]._hf_hook = object()
    elif change == "another type":

        class Packed(torch.nn.Parameter):
            pass

        model.lm_head.weight = Packed(model.lm_head.weight.detach())
    assert AttentionRows(model, records=change != "told not to")._recorded is None


def test_weights_are_in_memory_once_and_gone_with_the_rows():
    rows = make_rows()
    record(rows)
    weight = rows._model.lm_head.weight
    addresses = {held.data_ptr() for held in rows._recorded._functional.weights}
    assert weight.data_ptr() in addresses
    assert rows._recorded._recordings[ONE].run is not None
    assert rows._model.lm_head.weight is weight  # between passes the model is as it was


def test_nothing_of_a_recording_stays_in_torchs_own_hands():
    before = len(torch.jit._state._python_cu.get_functions())
    rows = make_rows()
    record(rows)
    assert rows._recorded._recordings[ONE].run is not None
    assert len(torch.jit._state._python_cu.get_functions()) == before


def test_recording_leaves_keys_and_values_as_the_model_made_them():
    rows, plain = make_rows(), make_rows(records=False)
    record(rows)
    record(plain)
    for mine, theirs in zip(rows._cache.held, plain._cache.held, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=0)


def test_a_setting_leaves_every_pass_to_the_model(tmp_path):
    tokenizer = toy_tokenizers.byte_level_bpe()
    make_model(vocab_size=len(tokenizer)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert MemberConfig(model=tmp_path).load()._rows._recorded is not None
    assert MemberConfig(model=tmp_path, record_passes=False).load()._rows._recorded is None
