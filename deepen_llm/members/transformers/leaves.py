"""Branches that others go on with need no row of their own in a pass: the longer one tells what comes on its way."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import starmap
from typing import NamedTuple

from deepen_llm.members.base import Branch


class Leaves(NamedTuple):
    """The branches that are run for some others as well."""

    branches: list[Branch]
    """Those that no other goes on with."""
    places: list[tuple[int, int]]
    """For each branch that was asked for, the number of one of them, and which of its tokens is the last one."""


def find_leaves(branches: Sequence[Branch]) -> Leaves:
    """Find the branches to run."""
    leaves: list[Branch] = []
    places = [(0, 0)] * len(branches)
    for at, branch in sorted(enumerate(starmap(Branch, branches)), key=lambda pair: -len(pair[1].ids)):
        number = next((number for number, leaf in enumerate(leaves) if _goes_on(leaf, branch)), len(leaves))
        if number == len(leaves):
            leaves.append(branch)
        places[at] = number, len(branch.ids) - 1
    return Leaves(leaves, places)


def _goes_on(leaf: Branch, branch: Branch) -> bool:
    """Whether a branch that is no shorter begins with another."""
    is_there = (leaf.row, leaf.num_back) == (branch.row, branch.num_back)
    return is_there and tuple(leaf.ids[: len(branch.ids)]) == tuple(branch.ids)
