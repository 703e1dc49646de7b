"""The ragged cache alone: keys that are their token's number, so that what a row holds can be read off."""

from __future__ import annotations

import pytest
import torch

from deepen_llm.members.transformers.cache import COMPACT_BEYOND_SLOTS, RaggedCache


def feed(cache, *rows):
    """Append tokens to every row of a cache; those of short rows are padded at the right with -1."""
    num_new = [len(row) for row in rows]
    mask = cache.mask_with(num_new)
    states = torch.tensor([[*row, *[-1] * (max(num_new) - len(row))] for row in rows], dtype=torch.float32)
    states = states[:, None, :, None]
    for layer in range(2):
        cache.keys_values.update(states + 100 * layer, states + 1000, layer)
    cache.note_appended(num_new, mask)


def read(cache):
    """The tokens of every row; in both layers, in keys and values, they must be the same ones."""
    layers = cache.keys_values.layers
    held = [layers[0].keys, layers[1].keys - 100, layers[0].values - 1000]
    for states in held:
        assert states.shape[:3] == (cache.num_rows, 1, cache.num_slots)
    rows = [[row[0, :, 0][mask].int().tolist() for row, mask in zip(one, cache.mask, strict=True)] for one in held]
    assert rows[0] == rows[1] == rows[2]
    assert [len(row) for row in rows[0]] == cache.lengths
    return rows[0]


def make_cache(*rows):
    cache = RaggedCache()
    feed(cache, *rows)
    return cache


def test_rows_of_one_length_need_no_mask():
    cache = RaggedCache()
    assert cache.mask_with([2, 2]) is None
    feed(cache, [1, 2], [3, 4])
    assert cache.mask_with([1, 1]) is None
    assert not cache.has_gaps
    assert read(cache) == [[1, 2], [3, 4]]


def test_the_last_slots_of_short_rows_are_dead_and_stay_out_of_what_follows():
    cache = make_cache([1, 2, 3], [4])
    feed(cache, [5], [6, 7])
    assert cache.mask.tolist() == [[True, True, True, True, False], [True, False, False, True, True]]
    assert cache.has_gaps
    assert read(cache) == [[1, 2, 3, 5], [4, 6, 7]]


def test_tokens_taken_back_leave_dead_slots_which_are_cropped_at_the_end_of_all_rows():
    cache = make_cache([1, 2, 3], [4, 5, 6])
    cache.rollback(0, 2)
    assert cache.num_slots == 3 and read(cache) == [[1], [4, 5, 6]]
    cache.rollback(1, 1)
    assert cache.num_slots == 2 and read(cache) == [[1], [4, 5]]


def test_tokens_are_taken_back_across_a_gap():
    cache = make_cache([1, 2, 3], [4])
    feed(cache, [], [5, 6])
    cache.rollback(1, 2)
    assert read(cache) == [[1, 2, 3], [4]]
    assert cache.num_slots == 3


def test_compacting_moves_live_slots_to_the_right_in_their_order():
    cache = make_cache([1, 2, 3], [4])
    feed(cache, [5], [6, 7])
    cache.compact()
    assert cache.num_slots == 4
    assert cache.mask.tolist() == [[True] * 4, [False, True, True, True]]
    assert not cache.has_gaps
    assert read(cache) == [[1, 2, 3, 5], [4, 6, 7]]


@pytest.mark.parametrize(
    ("num_dead", "is_compacted"), [(COMPACT_BEYOND_SLOTS, False), (COMPACT_BEYOND_SLOTS + 1, True)]
)
def test_dead_slots_are_squeezed_out_beyond_a_number(num_dead, is_compacted):
    cache = make_cache([1], [2])
    for _ in range(num_dead):
        feed(cache, [3], [])
    for _ in range(num_dead):
        feed(cache, [], [4])
    rows = read(cache)
    cache.compact_if_wasteful()
    assert (cache.num_slots == num_dead + 1) is is_compacted
    assert read(cache) == rows


def test_copied_rows_are_a_cache_of_their_own():
    cache = make_cache([1, 2, 3], [4])
    copied = cache.copy_rows([1, 0, 1])
    assert read(copied) == [[4], [1, 2, 3], [4]]
    copied.rollback(1, 1)
    feed(copied, [7], [8], [9])
    assert read(copied) == [[4, 7], [1, 2, 8], [4, 9]]
    assert read(cache) == [[1, 2, 3], [4]]
    assert cache.copy_rows([1]).num_slots == 1


@pytest.mark.parametrize("indices", [[1], [0, 2]])
def test_what_a_copy_of_some_rows_was_fed_is_taken_over_and_the_other_rows_have_dead_slots(indices):
    cache, new = make_cache([1, 2, 3], [4], [5, 6]), [[7, 8], [9]][: len(indices)]
    part = cache.copy_rows(indices)
    feed(part, *new)
    cache.append(part, indices)
    expected = [[1, 2, 3], [4], [5, 6]]
    for index, ids in zip(indices, new, strict=True):
        expected[index] = expected[index] + ids
    assert cache.num_slots == 5 and read(cache) == expected
    feed(cache, [1], [2], [3])
    assert read(cache) == [[*row, num] for num, row in enumerate(expected, start=1)]


def test_dead_slots_of_rows_that_are_seldom_fed_are_squeezed_out():
    cache = make_cache([1], [2])
    for token in range(3 * COMPACT_BEYOND_SLOTS):
        part = cache.copy_rows([token % 2])
        feed(part, [3])
        cache.append(part, [token % 2])
        assert cache.num_slots <= max(cache.lengths) + COMPACT_BEYOND_SLOTS + 1
    assert [len(row) for row in read(cache)] == [1 + 3 * COMPACT_BEYOND_SLOTS // 2] * 2


def test_a_row_that_is_dropped_frees_the_slots_that_only_it_needed():
    cache = make_cache([1, 2, 3], [4], [5, 6])
    cache.drop(0)
    assert cache.num_slots == 2 and read(cache) == [[4], [5, 6]]
    cache.drop(0)
    cache.drop(0)
    assert cache.num_rows == cache.num_slots == 0
    assert cache.keys_values.get_seq_length() == 0


@pytest.mark.parametrize(("mine", "others"), [(([1, 2, 3], [4]), ([5],)), (([1],), ([4, 5, 6], [7, 8]))])
def test_merged_rows_come_after_ones_own_whichever_are_longer(mine, others):
    cache = make_cache(*mine)
    cache.merge(make_cache(*others))
    assert read(cache) == [*mine, *others]
    feed(cache, *([9] for _ in range(cache.num_rows)))
    assert read(cache) == [[*row, 9] for row in (*mine, *others)]


def test_an_empty_cache_takes_others_over():
    cache = RaggedCache()
    cache.merge(make_cache([1, 2], [3]))
    assert read(cache) == [[1, 2], [3]]


def test_what_a_pass_left_in_some_layers_is_taken_back():
    cache = make_cache([1, 2], [3])
    layer = cache.keys_values.layers[0]
    layer.update(torch.zeros(2, 1, 1, 1), torch.zeros(2, 1, 1, 1))
    assert cache.restore()
    assert read(cache) == [[1, 2], [3]]
    with pytest.raises(RuntimeError):  # memory ended before the values, say
        layer.update(torch.zeros(2, 1, 1, 1), torch.zeros(2, 1, 1, 2))
    assert cache.restore()
    assert read(cache) == [[1, 2], [3]]


def break_second_layer(cache):
    """Have changes of all layers end in the values of the second."""
    layer = cache.keys_values.layers[1]
    layer._rooms = (layer._rooms[0], layer._rooms[1].expand(-1, 3, -1, -1))


@pytest.mark.parametrize("change", ["drop", "compact", "merge"])
def test_a_change_that_ended_between_layers_cannot_be_taken_back(change):
    cache = make_cache([1, 2], [3])
    feed(cache, [5], [6, 7])
    break_second_layer(cache)
    other = make_cache([4])
    other.keys_values.layers[1].values = torch.zeros(1, 1, 1, 2)
    calls = {"drop": lambda: cache.drop(0), "compact": cache.compact, "merge": lambda: cache.merge(other)}
    with pytest.raises(RuntimeError):
        calls[change]()
    assert not cache.restore()
