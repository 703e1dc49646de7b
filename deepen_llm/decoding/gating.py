"""When to fuse: steps that are better left to the main model, because nothing can come of asking the others.

Fusing at every token costs the most and, where tokenizers disagree, harms long answers ("SAFE", arXiv 2510.15346).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, final

from torch import Tensor

from deepen_llm.decoding.sequence import RunningSequence
from deepen_llm.decoding.track import Track


class Gate(ABC):
    """Chooses the sequences in which the other members are asked."""

    asks_main_first: ClassVar[bool]
    """Whether the choice rests on what the main model gives."""

    @abstractmethod
    def choose(self, sequences: Sequence[RunningSequence], logprobs: Tensor) -> list[int]:
        """The places of the sequences to fuse.

        Args:
            sequences: All that run.
            logprobs: The main model's, `(len(sequences), num_main_logits)`.
        """


@final
class FuseAlways(Gate):
    """Fuses every step of every sequence."""

    asks_main_first = False

    def choose(self, sequences: Sequence[RunningSequence], logprobs: Tensor) -> list[int]:
        """All of them."""
        del logprobs
        return list(range(len(sequences)))


@final
class FuseWhenUnsure(Gate):
    """Fuses where the main model is not sure and every member's text is at one of its token boundaries."""

    asks_main_first = True

    def __init__(self, confidence: float) -> None:
        """`confidence` is the probability of its best token with which the main model counts as sure."""
        self._least = math.log(confidence)

    def choose(self, sequences: Sequence[RunningSequence], logprobs: Tensor) -> list[int]:
        """See `Gate.choose`."""
        is_sure = (logprobs.amax(dim=-1) >= self._least).tolist()
        return [
            place
            for place, (sequence, sure) in enumerate(zip(sequences, is_sure, strict=True))
            if not sure and all(map(_is_at_boundary, sequence.tracks))
        ]


def _is_at_boundary(track: Track) -> bool:
    return track.takes_main_tokens or not track.alignment.open_tail(track.member.vocabulary.prefixes)[1]
