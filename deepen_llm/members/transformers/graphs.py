"""Passes of one token a row on a GPU: launched as one CUDA graph for each padded number of rows.

A graph works on fixed memory: the whole room of the cache, of which a mask says what is live, and buffers for tokens,
positions, the slot to write and the mask. Rows are padded to 1, 2, 4, 8, ...; where the cache moves to a larger room,
graphs are captured anew. As with the CPU's recordings, a graph is compared with the model now and then, and dropped
where it differs. What captures is an argument: on the CPU the function itself can stand for its graph.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Self, final

import torch
from torch import Tensor
from transformers import PreTrainedModel

from deepen_llm.members.transformers.cache import RaggedCache
from deepen_llm.members.transformers.functional import FunctionalModel
from deepen_llm.members.transformers.recorded import Checks, is_close

logger = logging.getLogger(__name__)

NAMES = ("input_ids", "position_ids", "attention_mask")
WARM_UPS = 2
"""Runs before a capture, in which libraries take the memory that they keep."""

Capture = Callable[[Callable[[], Tensor]], Callable[[], Tensor]]
"""From a function over fixed memory to one that does the same, and returns the same tensor each time."""


class _Graph(NamedTuple):
    """A pass over a padded number of rows."""

    ids: Tensor
    positions: Tensor
    mask: Tensor
    """(rows, 1, 1, slots of the room) bool."""
    slot: Tensor
    replay: Callable[[], Tensor]


@final
class DecodeGraphs:
    """The graphs of one model."""

    def __init__(
        self, model: PreTrainedModel, device: torch.device, sliding_window: int | None = None, *, capture: Capture
    ) -> None:
        self._functional = FunctionalModel(model)
        self._name, self._device, self._capture = type(model).__name__, device, capture
        self._sliding_window = sliding_window
        self._rooms: list[weakref.ref[Tensor]] = []
        """Those that the graphs work on. They are the cache's, which frees them."""
        self._graphs: dict[int, _Graph] = {}
        self._checks = Checks()
        self._is_refused = False

    @classmethod
    def find(cls, model: PreTrainedModel, accepts: frozenset[str], sliding_window: int | None = None) -> Self | None:
        """The graphs of a model on one GPU, none of which is captured yet; None where that cannot be.

        As on the CPU: quantized weights, weights in several places, or a way of attention or of counting positions that
        does not take a mask and positions as they are given.
        """
        weights = [*model.parameters(), *model.buffers()]
        is_plain = all(type(weight) in (Tensor, torch.nn.Parameter) for weight in weights)
        devices = {weight.device for weight in weights}
        is_moved = any(hasattr(module, "_hf_hook") for module in model.modules())
        attention = getattr(model.config, "_attn_implementation", None)
        is_fit = is_plain and not is_moved and attention == "sdpa" and "position_ids" in accepts
        if not is_fit or len(devices) != 1 or (device := devices.pop()).type != "cuda":
            return None
        return cls(model, device, sliding_window, capture=CudaCapture(device))

    def run(self, cache: RaggedCache, inputs: Mapping[str, Any], call: Callable[[], Tensor]) -> Tensor:
        """See `RecordedPasses.run`."""
        num_rows, width = inputs["input_ids"].shape
        reach = cache.num_slots + width
        if self._is_refused or not cache.num_slots or width > 1 or (self._sliding_window or reach) < reach:
            return call()
        try:
            graph = self._find_graph(cache, num_rows)
        except RuntimeError as error:  # the operations of some models cannot be captured
            self._refuse(f"{type(error).__name__}: {error}")
            cache.restore()
            return call()
        self._fill(graph, cache.num_slots, inputs)
        logits = graph.replay()[:num_rows].clone()
        if not self._checks.is_due(num_rows):
            return logits
        cache.restore()
        expected = call()
        if not is_close(logits, expected):
            self._refuse("a graph gave other logits than the model")
        return expected

    def _find_graph(self, cache: RaggedCache, num_rows: int) -> _Graph:
        """The graph for so many rows, over the room that the cache has with one slot more."""
        padded = 1 << (num_rows - 1).bit_length()
        cache.reserve_rows(padded)
        cache.open_slots(1)
        rooms = cache.rooms
        if len(rooms) != len(self._rooms) or any(a is not b() for a, b in zip(rooms, self._rooms, strict=True)):
            self._graphs.clear()
            self._rooms = [weakref.ref(room) for room in rooms]
            for room in rooms:  # what is masked must be a number all the same
                room[num_rows:] = 0
                room[:, :, cache.num_slots :] = 0
        if padded not in self._graphs:
            self._graphs[padded] = self._make(padded, rooms)
        return self._graphs[padded]

    def _make(self, num_rows: int, rooms: Sequence[Tensor]) -> _Graph:
        num_layers, num_slots = len(rooms) // 2, rooms[0].shape[2]
        ids, positions = torch.zeros((2, num_rows, 1), dtype=torch.long, device=self._device)
        mask = torch.ones((num_rows, 1, 1, num_slots), dtype=torch.bool, device=self._device)
        slot = torch.full((1,), num_slots - 1, device=self._device)
        held = [room[:num_rows] for room in rooms]
        tensors = (ids, positions, mask, slot, *held, *self._functional.weights)
        # Until it is filled in, it writes where no slot is held.
        replay = self._capture(lambda: self._functional.run(NAMES, tensors, num_layers))
        return _Graph(ids, positions, mask, slot, replay)

    def _fill(self, graph: _Graph, num_slots: int, inputs: Mapping[str, Any]) -> None:
        """Put a pass's inputs into a graph's buffers. Rows that pad see the first slot and nothing else."""
        ids, live = inputs["input_ids"], inputs.get("attention_mask")
        num_rows = len(ids)
        graph.ids[:num_rows].copy_(ids)
        graph.positions[:num_rows].copy_(inputs["position_ids"])
        graph.slot.fill_(num_slots)
        graph.mask.zero_()
        graph.mask[num_rows:, ..., 0] = True
        graph.mask[:num_rows, 0, 0, : num_slots + 1] = True if live is None else live.bool()

    def _refuse(self, why: str) -> None:
        self._is_refused = True
        self._graphs.clear()
        self._rooms = []
        logger.info("passes of %s are launched one operation at a time: %s", self._name, why[:300])


def run_directly(function: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """A `Capture` for the CPU: what is replayed is the function itself."""
    return function


@final
class CudaCapture:
    """Captures CUDA graphs, all of them in one pool of memory."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool: Any = None

    def __call__(self, function: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """A graph of what a function launches."""
        with torch.cuda.device(self._device):
            aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                for _ in range(WARM_UPS):
                    function()
            torch.cuda.current_stream().wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            self._pool = self._pool or torch.cuda.graph_pool_handle()
            with torch.cuda.graph(graph, pool=self._pool):
                logits = function()

        def replay() -> Tensor:
            graph.replay()
            return logits

        return replay
