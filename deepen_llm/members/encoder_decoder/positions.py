"""Positions of a decoder's tokens, row by row.

The decoders of sequence-to-sequence models count positions by the slots of the cache, the same in every row, and take
no others. In a ragged cache a row's tokens are fewer than the slots. So where a decoder looks positions up, they are
put in: in its table of positions (BART, mBART, Marian, Pegasus, M2M100), or in the bias by distance (T5 and its like).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, final

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from deepen_llm.errors import MemberError

LEAST_TABLE = 64
"""Positions that a table has at least, so that it is not made anew at every step."""


class _Places(NamedTuple):
    """Where the tokens of a pass are in their rows."""

    queries: Tensor
    """The position of every new token, (rows, width)."""
    keys: Tensor
    """That of every slot, old ones and new ones, (rows, slots)."""


@final
class RowPositions:
    """The positions of one model's decoder. Between passes the model is as it was."""

    def __init__(self, model: PreTrainedModel, name: str, max_positions: int) -> None:
        """Find where the decoder looks positions up.

        Args:
            model: Whose decoder.
            name: What errors call it.
            max_positions: How many the decoder knows.

        Raises:
            MemberError: It does so in none of the known ways.
        """
        self._max_positions = max_positions
        self._places: _Places | None = None
        self._table: Tensor | None = None
        decoder: nn.Module = model.get_decoder()  # type: ignore[no-untyped-call]
        table = getattr(decoder, "embed_positions", None)
        self._not_padding = 1 + int(getattr(table, "padding_idx", None) or 0)
        biases = [module for module in decoder.modules() if getattr(module, "has_relative_attention_bias", False)]
        if isinstance(table, nn.Module):
            self._put(table, "forward", self._embed)
        for module in () if isinstance(table, nn.Module) else biases:
            self._put(module, "compute_bias", self._compute_bias)
        if not biases and not isinstance(table, nn.Module):
            raise MemberError(
                f"the decoder of member {name!r}, a {type(model).__name__}, counts positions in a way that is not "
                "known: take a model like T5, M2M100 (NLLB), mBART, BART, Marian or Pegasus"
            )

    @contextmanager
    def of_rows(self, mask: Tensor | None, lengths: Sequence[int], num_new: Sequence[int]) -> Iterator[None]:
        """Within, the decoder counts every row's own tokens.

        Args:
            mask: Which slots are live, those of the pass included, (rows, slots); None where all are.
            lengths: How many tokens each row has in the cache.
            num_new: How many are added.
        """
        if mask is not None:
            # What pads a row has the position of its last token: no other may exist.
            width, ends = max(num_new), torch.tensor([a + b for a, b in zip(lengths, num_new, strict=True)])
            queries = torch.tensor(lengths)[:, None] + torch.arange(width)
            queries = queries.minimum((ends - 1)[:, None]).clamp_min(0)
            self._places = _Places(queries, (mask.long().cumsum(dim=1) - 1).clamp_min(0))
        try:
            yield
        finally:
            self._places = None

    def _put(self, module: nn.Module, method: str, of_rows: Callable[..., Tensor]) -> None:
        setattr(module, method, partial(of_rows, getattr(module, method)))

    def _embed(self, own: Callable[..., Tensor], tokens: Any, *others: Any, **named: Any) -> Tensor:
        """What a decoder adds to its tokens, (rows, width, hidden). `tokens` are ids, or only their shape."""
        if self._places is None:
            return own(tokens, *others, **named)
        queries = self._places.queries
        needed = int(queries.max()) + 1
        if self._table is None or len(self._table) < needed:
            size = (1, min(max(2 * needed, LEAST_TABLE), self._max_positions))
            made = own(tokens.new_full(size, self._not_padding) if isinstance(tokens, Tensor) else size)
            self._table = made.flatten(0, -2)
        return self._table[queries.to(self._table.device)]

    def _compute_bias(
        self, own: Callable[..., Tensor], query_length: int, key_length: int, *others: Any, **named: Any
    ) -> Tensor:
        """What is added to the scores of every token for every slot, (rows, heads, width, slots)."""
        if self._places is None:
            return own(query_length, key_length, *others, **named)
        queries, keys = self._places
        distances = (queries[:, :, None] - keys[:, None, :]).clamp_min(0)
        reach = int(distances.max()) + 1
        by_distance = own(1, reach, past_seen_tokens=reach - 1)[0, :, 0].flip(-1)
        return by_distance[:, distances.to(by_distance.device)].transpose(0, 1)
