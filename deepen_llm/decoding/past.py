"""What a row of a member holds: the tokens, and how probable the member found those of which that was measured."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import final

import numpy as np
from numpy.typing import NDArray

LEAST_TOKENS = 64
"""Fewer tokens in common are read again rather than copied."""


@final
class Past:
    """A row's tokens, from the first on, as they are or, of a row that begins, as they will be. It does not change."""

    def __init__(self, ids: Sequence[int], logprobs: Sequence[float], num_due: int = 0) -> None:
        """Take them.

        Args:
            ids: The tokens.
            logprobs: The natural logs of what each was given, NaN where that is not known.
            num_due: Of how many of the last tokens it must be known once a row that begins was fed.
        """
        self.ids: NDArray[np.int32] = np.array(ids, np.int32)
        self.logprobs = list(logprobs)
        self._num_due = num_due

    @cached_property
    def head(self) -> bytes:
        """Rows that have not these tokens in common have too few."""
        return self.ids[:LEAST_TOKENS].tobytes()

    def __len__(self) -> int:
        """How many tokens there are."""
        return len(self.ids)

    def count_common(self, other: Past) -> int:
        """How many tokens at the beginning are the same."""
        num = min(len(self), len(other))
        differing = (self.ids[:num] != other.ids[:num]).nonzero()[0]
        return int(differing[0]) if len(differing) else num

    def count_usable(self, other: Past) -> int:
        """Behind how many of another row's first tokens this one can begin.

        What must be known of this one's tokens has to be known there of those that are left out, and of the first one
        that is fed: a pass does not tell what its own first token was given.
        """
        num_common, begin = self.count_common(other), len(self) - self._num_due
        known = ~np.isnan(other.logprobs[begin:num_common])
        num_known = begin + (len(known) if known.all() else int(known.argmin()))
        return max(min(num_common, num_known - 1), 0)
