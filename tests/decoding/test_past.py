"""Behind how much of what a row holds another may begin."""

from __future__ import annotations

import math
import random

import pytest

from deepen_llm.decoding.past import LEAST_TOKENS, Past


def find_usable(mine, theirs, known, num_due):
    """Literally: the longest beginning of both, behind which what is due of mine comes with a pass or is known."""
    for num in range(min(len(mine), len(theirs)), 0, -1):
        due = range(len(mine) - num_due, len(mine))
        told_by_the_pass = range(num + 1, len(mine))
        held_there = [at for at in range(len(theirs)) if theirs[: at + 1] == mine[: at + 1] and at in known]
        if mine[:num] == theirs[:num] and all(at in told_by_the_pass or at in held_there for at in due):
            return num
    return 0


@pytest.mark.parametrize("seed", range(300))
def test_a_row_begins_behind_as_much_as_leaves_nothing_unknown(seed):
    rng = random.Random(seed)
    mine = [rng.randrange(3) for _ in range(rng.randint(2, 9))]
    num_common = rng.randint(0, len(mine))
    theirs = mine[:num_common] + [rng.randrange(3) for _ in range(rng.randint(0, 4))] or [0]
    known = {at for at in range(len(theirs)) if rng.random() < rng.choice([0.2, 0.8, 1.0])}
    num_due = rng.randint(0, len(mine) - 1)
    other = Past(theirs, [-1.0 if at in known else math.nan for at in range(len(theirs))])
    found = Past(mine, [math.nan] * len(mine), num_due).count_usable(other)
    assert found == min(find_usable(mine, theirs, known, num_due), len(mine) - 1)  # a token is left to be fed


def test_what_two_rows_have_in_common_is_their_beginning():
    past = Past([1, 2, 3, 4], [0.0] * 4)
    for ids, num in (([1, 2, 3, 4], 4), ([1, 2], 2), ([1, 2, 3, 4, 5], 4), ([2, 2, 3], 0), ([1, 9, 3, 4], 1)):
        assert past.count_common(Past(ids, [0.0] * len(ids))) == num


def test_rows_whose_first_tokens_differ_have_another_head():
    ids = list(range(LEAST_TOKENS + 5))
    assert Past(ids, ids).head == Past([*ids[:-1], 0], ids).head
    assert Past(ids, ids).head != Past([9, *ids[1:]], ids).head
