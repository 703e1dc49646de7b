"""Rows of a model whose whole memory is its keys and values: all rows run in one batched forward pass."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, final

import torch
from torch import Tensor
from transformers import PreTrainedModel

from deepen_llm.members.base import Branch
from deepen_llm.members.transformers.cache import RaggedCache
from deepen_llm.members.transformers.cache_argument import find_cache_argument
from deepen_llm.members.transformers.placement import input_device
from deepen_llm.members.transformers.rows import Extended, Rows, measure


class _Asked(NamedTuple):
    """What is measured in a pass."""

    measured: Mapping[int, int]
    """How many tokens, by row or by place in the batch."""
    temperature: float = 1.0


@final
class AttentionRows(Rows):
    """Running rows of one attention model in one ragged cache.

    Rows that begin are prefilled in a batch of their own and then join, so that a long prompt does not widen the
    pass of the rows that run already.
    """

    def __init__(self, model: PreTrainedModel, sliding_window: int | None = None) -> None:
        self._model = model
        self._device = input_device(model)
        self._sliding_window = sliding_window
        self._cache = RaggedCache()
        self._order: list[int] = []
        self._lost: set[int] = set()
        self._cache_argument = find_cache_argument(model)
        self._accepts = frozenset(inspect.signature(model.forward).parameters)

    @property
    def bytes_per_token(self) -> int:
        """Keys and values of every layer for one token."""
        config = self._model.config.get_text_config()
        num_heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return int(2 * config.num_hidden_layers * num_heads * head_dim * self._model.dtype.itemsize)

    def extend(
        self, tokens: Mapping[int, Sequence[int]], measured: Mapping[int, int], *, temperature: float = 1.0
    ) -> Extended:
        """See `Rows.extend`."""
        self._check_kept(tokens)
        with self._keep_even():
            return self._extend_all(tokens, _Asked(measured, temperature))

    def peek(self, branches: Sequence[Branch]) -> Tensor:
        """Logits after other tokens, from copies of the rows' keys and values."""
        self._check_kept(row for row, _, _ in branches)
        cache = self._cache.copy_rows([self._order.index(row) for row, _, _ in branches])
        for index, (_, num_back, _) in enumerate(branches):
            if num_back:
                cache.rollback(index, num_back)
        return self._forward(cache, [ids for _, _, ids in branches])[0]

    def rollback(self, row: int, num_tokens: int) -> None:
        """Forget the last `num_tokens` tokens of a row."""
        self._check_kept([row])
        if num_tokens:
            self._cache.rollback(self._order.index(row), num_tokens)

    def release(self, row: int) -> None:
        """Free a row; a row that never ran has nothing to free."""
        self._lost.discard(row)
        if row in self._order:
            index = self._order.index(row)
            self._order.remove(row)
            with self._keep_even():
                self._cache.drop(index)

    @contextmanager
    def _keep_even(self) -> Iterator[None]:
        """Where a change of the cache fails halfway, take back what it did; rows for which that is too late are lost.

        A pass leaves its tokens in the layers that it came through, also for the rows that had none.
        """
        try:
            yield
        except BaseException:
            if not self._cache.restore():
                self._cache.clear()
                self._lost.update(self._order)
                self._order = []
            raise

    def _check_kept(self, rows: Iterable[int]) -> None:
        """Raise for rows that were lost, which would begin anew as if they had been empty."""
        if not self._lost.isdisjoint(rows):
            raise RuntimeError("a failure before, when the cache was changed, has cost this row its keys and values")

    def _extend_all(self, tokens: Mapping[int, Sequence[int]], asked: _Asked) -> Extended:
        """Feed rows that run and rows that begin, in a pass each."""
        if list(tokens) == self._order:
            return self._extend(self._cache, self._order, tokens, asked)
        passes: list[tuple[list[int], Extended]] = []
        new = [row for row in tokens if row not in self._order]
        if len(new) < len(tokens):
            passes.append((self._order, self._extend(self._cache, self._order, tokens, asked)))
        if new:
            begun = RaggedCache()
            passes.append((new, self._extend(begun, new, tokens, asked)))
            self._cache.merge(begun)
            self._order = self._order + new
        logits = {row: one for rows, made in passes for row, one in zip(rows, made.logits, strict=True)}
        found = {row: one for _, made in passes for row, one in made.measured.items()}
        return Extended(torch.stack([logits[row] for row in tokens]), found)

    def _extend(
        self, cache: RaggedCache, rows: Sequence[int], tokens: Mapping[int, Sequence[int]], asked: _Asked
    ) -> Extended:
        """One pass over all rows of a cache, of which only some may have new tokens."""
        fed = [tokens.get(row, ()) for row in rows]
        at_places = {place: asked.measured[row] for place, row in enumerate(rows) if asked.measured.get(row)}
        logits, found = self._forward(cache, fed, _Asked(at_places, asked.temperature))
        return Extended(logits, {rows[place]: logprobs for place, logprobs in found.items()})

    def _forward(
        self, cache: RaggedCache, fed: Sequence[Sequence[int]], asked: _Asked | None = None
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """One pass over all rows of a cache, each with some new tokens or none; `asked` goes by place in the batch.

        Returns:
            Logits (rows, num_logits), and by place in the batch the log-probabilities of the tokens to measure.
        """
        measured, temperature = asked or _Asked({})
        cache.compact_if_wasteful()
        num_new = [len(ids) for ids in fed]
        reach = cache.num_slots + max(num_new)
        if self._sliding_window and reach > self._sliding_window and cache.has_gaps:
            cache.compact()
        mask = cache.mask_with(num_new)
        kept = {max(new - 1, 0) for new in num_new}
        for place, num in measured.items():
            kept.update(range(num_new[place] - num - 1, num_new[place] - 1))
        inputs = self._inputs(cache, fed, mask, sorted(kept))
        outputs = self._model(**inputs, **{self._cache_argument: cache.keys_values}, use_cache=True)
        cache.note_appended(num_new, mask)
        logits: Tensor = outputs.logits
        if logits.shape[1] == 1:
            return logits[:, 0], {}
        positions = sorted(kept) if self._keeps_some(num_new) else range(logits.shape[1])
        at = {position: index for index, position in enumerate(positions)}
        last = torch.tensor([at[max(new - 1, 0)] for new in num_new], device=logits.device)
        found = {
            place: measure(logits[place, at[begin - 1] : at[begin - 1] + num], fed[place][begin:], temperature)
            for place, num in measured.items()
            for begin in [num_new[place] - num]
        }
        return logits[torch.arange(len(fed), device=logits.device), last], found

    def _inputs(
        self, cache: RaggedCache, fed: Sequence[Sequence[int]], mask: Tensor | None, kept: Sequence[int]
    ) -> dict[str, Any]:
        """The arguments of `forward` that this model accepts, on its device. Short rows are padded at the right.

        Args:
            cache: The rows' keys and values.
            fed: Their new tokens.
            mask: Which slots are live.
            kept: The places of new tokens after which logits are needed, ascending.
        """
        device, num_new = self._device, [len(ids) for ids in fed]
        width = max(num_new)
        ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in fed], device=device)
        inputs: dict[str, Any] = {"input_ids": ids}
        if mask is not None:
            inputs["attention_mask"] = mask.to(device=device, dtype=torch.long)
        if "position_ids" in self._accepts:
            begins = cache.lengths or [0] * len(fed)
            inputs["position_ids"] = torch.tensor([range(begin, begin + width) for begin in begins], device=device)
        if self._keeps_some(num_new):
            inputs["logits_to_keep"] = torch.tensor(kept, device=device)
        return inputs

    def _keeps_some(self, num_new: Sequence[int]) -> bool:
        """Whether the model is asked for logits at some positions only."""
        return max(num_new) > 1 and "logits_to_keep" in self._accepts
