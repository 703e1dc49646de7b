"""What a member's row holds beyond the text: tokens that may come next, and what the member says after each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Self, final

import torch
from torch import Tensor


class Place(NamedTuple):
    """Next-token logits of one row of a pass."""

    batch: Tensor
    """`(rows, num_logits)`."""
    row: int

    @property
    def logits(self) -> Tensor:
        """`(num_logits,)`."""
        return self.batch[self.row]


@final
@dataclass(frozen=True, eq=False, slots=True)
class ReadAhead:
    """Tokens behind those of the text in a row's cache. A step that they foresaw needs no pass."""

    ids: tuple[int, ...] = ()
    places: tuple[Place, ...] = field(default=())
    """What comes after each of the tokens."""

    def begins_with(self, ids: Sequence[int]) -> bool:
        """Whether all of these tokens were foreseen, and there is one at least."""
        return bool(ids) and self.ids[: len(ids)] == tuple(ids)

    def after(self, num_tokens: int) -> Self:
        """What is left once the first tokens belong to the text."""
        return type(self)(self.ids[num_tokens:], self.places[num_tokens:])

    def extended(self, ids: Sequence[int], places: Sequence[Place]) -> Self:
        """With more tokens at the end."""
        return type(self)((*self.ids, *ids), (*self.places, *places))

    def measure(self, ids: Sequence[int], num_tokens: int) -> list[float]:
        """The natural-log probability of each of the last tokens of `ids`, with which what was foreseen begins."""
        places = range(len(ids) - num_tokens, len(ids))
        return measure([self.places[at - 1] for at in places], [ids[at] for at in places])


def measure(places: Sequence[Place], ids: Sequence[int]) -> list[float]:
    """The natural-log probability of each token, given the logits that it was chosen from."""
    if not ids:
        return []
    logits = torch.stack([place.logits for place in places]).float()
    said = torch.tensor(list(ids), device=logits.device)
    logprobs: list[float] = logits.log_softmax(dim=-1).gather(1, said[:, None])[:, 0].tolist()
    return logprobs
