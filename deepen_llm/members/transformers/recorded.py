"""Short passes of a model, recorded once and then run without its Python code: most of a small model's time.

What is recorded is a trace of the operations of one pass, which holds for any number of rows, tokens and slots. It is
taken only where nothing in the pass depends on what the tensors hold (no number is read back, no shape depends on one,
nothing is drawn), and it is compared with the model itself again and again, more and more seldom: where it differs by
more than rounding, or where anything fails, the model runs as before.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self, final

import torch
from torch import Tensor
from torch.jit import TracerWarning  # type: ignore[attr-defined]
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PreTrainedModel

from deepen_llm.members.transformers.cache import RaggedCache
from deepen_llm.members.transformers.functional import PASSED, FunctionalModel

logger = logging.getLogger(__name__)

MAX_WIDTH = 32
"""Longer passes are prefills: what the code around them takes does not matter."""
RECORDED_AFTER = 8
"""Passes of a kind before it is recorded, which takes as long as two of them, and some hundredths of a second."""
TOLERANCE = 2.0**-17
"""How much a recording may be off, of the greatest logit, in float32; 4 roundings in coarser number formats."""
INDEX = torch.ops.aten.index.Tensor
ESCAPES = ("Python list", "NumPy array")
"""What a trace warns of where numbers leave the tensors unseen."""


class Kind(NamedTuple):
    """Passes that run the same operations."""

    is_wide: bool
    """Several tokens a row."""
    names: tuple[str, ...]
    """The tensors that are given; see `functional.PASSED`."""


@final
@dataclass
class Checks:
    """When what was recorded is compared with the model."""

    num_runs: int = 0
    checked_rows: set[int] = field(default_factory=set)
    """Numbers of rows for which it was."""

    def is_due(self, num_rows: int) -> bool:
        """Whether the next run is compared with the model: the 1st, 2nd, 4th, ..., and the first of so many rows."""
        self.num_runs += 1
        is_due = num_rows not in self.checked_rows or self.num_runs & (self.num_runs - 1) == 0
        self.checked_rows.add(num_rows)
        return is_due


@final
@dataclass
class _Recording:
    """Of one kind of pass."""

    num_seen: int = 0
    run: Callable[..., Tensor] | None = None
    checks: Checks = field(default_factory=Checks)
    is_refused: bool = False


@final
class RecordedPasses:
    """The recordings of one model on the CPU."""

    def __init__(self, model: PreTrainedModel, sliding_window: int | None = None) -> None:
        """Of a model for which `find` saw nothing that speaks against it."""
        self._functional = FunctionalModel(model)
        self._name = type(model).__name__
        self._sliding_window = sliding_window
        self._recordings: dict[Kind, _Recording] = {}

    @classmethod
    def find(cls, model: PreTrainedModel, accepts: frozenset[str], sliding_window: int | None = None) -> Self | None:
        """The recordings of a model, none of which is made yet; None where its passes are not recorded.

        Those are of whole numbers (quantized), on other devices, moved between places, or with a way of attention or of
        counting positions that does not take a mask and positions as they are given.
        """
        weights = [*model.parameters(), *model.buffers()]
        is_plain = all(
            type(weight) in (Tensor, torch.nn.Parameter) and weight.device.type == "cpu" for weight in weights
        )
        is_moved = any(hasattr(module, "_hf_hook") for module in model.modules())
        attention = getattr(model.config, "_attn_implementation", None)
        if not is_plain or is_moved or attention != "sdpa" or "position_ids" not in accepts:
            return None
        return cls(model, sliding_window)

    def run(self, cache: RaggedCache, inputs: Mapping[str, Any], call: Callable[[], Tensor]) -> Tensor:
        """A pass over all rows of a cache, by its recording where there is one.

        Args:
            cache: Is appended to; what failed halfway `RaggedCache.restore` takes back.
            inputs: The arguments of `forward`, the cache left out.
            call: The pass by the model itself, which appends to the cache as well.

        Returns:
            Its logits, at the places that the inputs say.
        """
        num_rows, width = inputs["input_ids"].shape
        reach = cache.num_slots + width
        if not cache.num_slots or width > MAX_WIDTH or (self._sliding_window or reach) < reach:
            return call()
        tensors = _add_mask(inputs, cache.num_slots)
        kind = Kind(width > 1, tuple(name for name in PASSED if name in tensors))
        recording = self._recordings.setdefault(kind, _Recording())
        if recording.run is None:
            return self._see(recording, kind, cache, call)
        slots = torch.arange(cache.num_slots, reach)
        given = [tensors[name] for name in kind.names]
        logits = recording.run(*given, slots, *cache.open_slots(width), *self._functional.weights)
        if not recording.checks.is_due(num_rows):
            return logits
        cache.restore()
        expected = call()
        if not is_close(logits, expected):
            self._refuse(recording, "it gave other logits than the model")
        return expected

    def _see(
        self,
        recording: _Recording,
        kind: Kind,
        cache: RaggedCache,
        call: Callable[[], Tensor],
    ) -> Tensor:
        """A pass by the model itself, of which a recording is made when it is time."""
        recording.num_seen += 1
        if recording.is_refused or recording.num_seen != RECORDED_AFTER:
            return call()
        random_state = torch.get_rng_state()
        with _Watch() as watch:
            logits = call()
        if watch.found or not torch.equal(random_state, torch.get_rng_state()):
            self._refuse(recording, f"the pass depends on chance or on what its tensors hold {watch.found}")
            return logits
        try:
            recording.run = self._trace(kind, cache.held)
        except Exception as error:  # whatever a model's own code raises: it does without a recording
            self._refuse(recording, f"{type(error).__name__}: {error}")
        return logits

    def _trace(self, kind: Kind, held: Sequence[Tensor]) -> Callable[..., Tensor]:
        """A recording of a pass, made of tensors that take next to no memory, with keys and values like those held.

        What `torch.jit.trace` makes, torch keeps for as long as the process lives, some megabytes each; so its two
        halves are called here.

        Raises:
            _EscapeError: Numbers leave the tensors in it.
            Exception: Of the model's own code.
        """
        width = 2 if kind.is_wide else 1
        tensors = (
            *(_stand_in(name, width) for name in kind.names),
            torch.arange(1, width + 1),
            *(states.new_zeros((2, states.shape[1], width + 1, states.shape[3])) for states in held),
            *(weight.new_zeros(()).expand(weight.shape) for weight in self._functional.weights),
        )
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            graph, _ = torch._C._create_graph_by_tracing(
                lambda *given: self._functional.run(kind.names, given, len(held) // 2),
                tensors,
                lambda _: "",
                True,
                False,
            )
            traced: Callable[..., Tensor] = torch._C._create_function_from_graph("recorded_pass", graph)
        for warning in told:
            if issubclass(warning.category, TracerWarning) and any(what in str(warning.message) for what in ESCAPES):
                raise _EscapeError(str(warning.message))
        return traced

    def _refuse(self, recording: _Recording, why: str) -> None:
        """Leave this kind of pass to the model for good."""
        recording.run, recording.is_refused = None, True
        logger.info("passes of %s are run by the model and not by a recording: %s", self._name, why[:300])


class _EscapeError(Exception):
    """A pass reads numbers out of its tensors."""


@final
class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Looks for operations of which a result's shape, or what Python makes of it, depends on what tensors hold."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found = ""
        """The last one."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.data_dependent_output in func.tags:
            self.found = str(func)
        if torch.Tag.dynamic_output_shape in func.tags and not (func is INDEX and _is_by_place(args[1])):
            self.found = str(func)
        return func(*args, **(kwargs or {}))


def _is_by_place(indices: Sequence[Tensor | None]) -> bool:
    """Whether what is chosen is named, and not marked in a mask."""
    return all(index is None or index.dtype not in (torch.bool, torch.uint8) for index in indices)


def _stand_in(name: str, width: int) -> Tensor:
    """An argument of a pass of two rows, behind one slot."""
    positions = torch.arange(1, width + 1)
    return {
        "input_ids": torch.zeros((2, width), dtype=torch.long),
        "position_ids": positions.repeat(2, 1),
        "attention_mask": torch.ones((2, 1, width, width + 1), dtype=torch.bool),
        "logits_to_keep": positions - 1,
    }[name]


def _add_mask(inputs: Mapping[str, Any], num_slots: int) -> dict[str, Tensor]:
    """The inputs with the whole mask (rows, 1, width, slots) in the place of which slots are live (rows, slots).

    One token a row in rows without dead slots sees everything, and needs none.
    """
    live, (num_rows, width) = inputs.get("attention_mask"), inputs["input_ids"].shape
    if live is None and width == 1:
        return dict(inputs)
    reach = num_slots + width
    mask = torch.arange(reach) <= torch.arange(num_slots, reach)[:, None]
    if live is not None:
        mask = mask & live.bool()[:, None]
    return {**inputs, "attention_mask": mask.expand(num_rows, width, reach)[:, None]}


def is_close(logits: Tensor, expected: Tensor) -> bool:
    """Whether logits differ by rounding only."""
    if logits.shape != expected.shape:
        return False
    tolerance = max(TOLERANCE, 4 * torch.finfo(expected.dtype).eps)
    most = tolerance * float(expected.nan_to_num().abs().max())
    return torch.allclose(logits, expected, rtol=0.0, atol=most, equal_nan=True)
