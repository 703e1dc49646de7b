"""One layer's keys and values: what is written in place, when memory is taken, and when it is given back."""

from __future__ import annotations

import pytest
import torch

from deepen_llm.members.transformers.slots import BLOCK_SLOTS, MAX_SPARE, SlotLayer


def make_states(num_rows, num_slots, head_dim=2):
    return torch.randn(num_rows, 3, num_slots, head_dim)


def make_layer(num_rows, num_slots):
    layer = SlotLayer()
    layer.update(make_states(num_rows, num_slots), make_states(num_rows, num_slots, 4))
    return layer


def test_a_pass_writes_behind_what_is_held_and_the_memory_stays_where_it_is():
    layer = make_layer(2, 3)
    before, place = (layer.keys.clone(), layer.values.clone()), layer.keys.data_ptr()
    keys, values = make_states(2, 2), make_states(2, 2, 4)
    held = layer.update(keys, values)
    assert held[0] is layer.keys and held[1] is layer.values
    assert torch.equal(layer.keys, torch.cat([before[0], keys], dim=2))
    assert torch.equal(layer.values, torch.cat([before[1], values], dim=2))
    assert layer.keys.data_ptr() == place
    assert layer.get_seq_length() == 5 and layer.get_mask_sizes(2) == (7, 0)


def test_memory_is_taken_a_few_times_only_and_is_never_twice_what_is_held():
    layer, places = make_layer(1, 1), set()
    for _ in range(40 * BLOCK_SLOTS):
        layer.update(make_states(1, 1), make_states(1, 1, 4))
        places.add(layer.keys.data_ptr())
        assert layer.room_bytes <= 1.5 * (layer.keys.nbytes + layer.values.nbytes) + BLOCK_SLOTS * 3 * 6 * 4
    assert len(places) < 12


def test_tokens_taken_back_leave_the_memory_and_are_written_over():
    layer = make_layer(1, 8)
    before, num_bytes = layer.keys.clone(), layer.room_bytes
    layer.crop_to(3)
    keys = make_states(1, 1)
    layer.update(keys, make_states(1, 1, 4))
    assert torch.equal(layer.keys, torch.cat([before[:, :, :3], keys], dim=2))
    assert layer.room_bytes == num_bytes


def test_memory_is_given_back_where_most_rows_have_left():
    layer = make_layer(8, BLOCK_SLOTS)
    before, num_bytes = layer.keys.clone(), layer.room_bytes
    layer.keep_rows([1, 4])
    layer.shrink()
    assert layer.room_bytes == num_bytes  # a quarter is in use
    layer.keep_rows([1])
    layer.shrink()
    assert layer.room_bytes * 8 == num_bytes and MAX_SPARE == 4
    assert torch.equal(layer.keys, before[4:5])


@pytest.mark.parametrize("has_room", [False, True])
@pytest.mark.parametrize(("mine", "others"), [(3, 5), (5, 3)])
def test_rows_that_join_end_at_the_same_slot_behind_zeros(mine, others, has_room):
    layer, other = make_layer(2, mine), make_layer(1, others)
    if has_room:
        layer = layer.copy_rows([0, 1, 0])
        layer.keep_rows([0, 1])
    expected = torch.zeros(3, 3, 5, 4)
    expected[:2, :, 5 - mine :], expected[2:, :, 5 - others :] = layer.values, other.values
    place = layer.keys.data_ptr()
    layer.join(other, 5)
    assert torch.equal(layer.values, expected)
    assert (layer.keys.data_ptr() == place) is has_room


def test_what_is_held_may_be_written_outside_of_inference_mode():
    with torch.inference_mode():
        layer = make_layer(1, 3)
        other = layer.copy_rows([0])
    other.update(make_states(1, 1), make_states(1, 1, 4))
    layer.join(other, 4)
    assert layer.keys.shape == (2, 3, 4, 2)


def test_gradients_are_not_kept():
    layer = SlotLayer()
    keys = make_states(1, 2).requires_grad_()
    layer.update(keys * 2, make_states(1, 2, 4))
    assert not layer.keys.requires_grad


def test_a_change_that_fails_between_keys_and_values_leaves_a_layer_that_says_that_it_holds_nothing():
    layer = make_layer(2, 3)
    layer._rooms = (layer._rooms[0], layer._rooms[1][..., :1])
    with pytest.raises(RuntimeError):
        layer.keep_rows([1])
    assert (layer.num_rows, layer.num_slots) == (0, 0)
