"""What a step of relative fusion costs and how close it comes to the dense reference, by size of the vocabularies."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

import torch
from torch import Tensor

from deepen_llm.bench.reference import fuse_densely
from deepen_llm.bench.timing import Spread, take_turns
from deepen_llm.fusion.relative import MemberSpace, RelativeFusion
from deepen_llm.fusion.relative.inverse import InverseSearch
from deepen_llm.fusion.relative.storage import TableStore

NUM_STEPS, LEARNING_RATE = 5, 0.15
DENSE_BYTES = 7e9
"""The dense form is built where all its matrices together take no more than this, and so is the reference's."""
LARGE_BATCH = 32

Form = Literal["auto", "dense", "sampled"]
Search = Literal["multiplicative", "gradient"]


@final
@dataclass(frozen=True, slots=True)
class Comparison:
    """How far a form is from the dense float64 reference, over recorded steps."""

    num_steps: int
    kl_median: float
    kl_p99: float
    share_equal: float
    """Of the steps in which both have the same best token."""


@final
@dataclass(frozen=True, slots=True)
class FusionFigures:
    """Everything measured for one set of members. Times in milliseconds, for one step of all rows of a batch."""

    search: str
    form: str
    num_tokens: tuple[int, ...]
    num_anchors: int
    hidden: tuple[int, ...]
    build_s: float
    restart_s: float
    """Building again, with the tables kept on disk."""
    member_bytes: tuple[int, ...]
    step_ms: Spread
    softmax_ms: Spread
    """Of that, the softmax over every member's logits, timed by itself."""
    batch_ms: Spread
    dense_published_ms: Spread | None
    """One step of the published search over dense matrices; None where these do not fit."""
    comparison: Comparison | None
    """None where the reference's matrix does not fit."""


@final
class FusionBenchmark:
    """Measures one set of members on given logits, with uniform weights and the first member as the main model."""

    def __init__(
        self,
        members: Sequence[MemberSpace],
        logits: Sequence[Tensor],
        *,
        search: Search = "multiplicative",
        form: Form = "auto",
        num_compared: int = 64,
        num_repetitions: int = 20,
    ) -> None:
        """`logits` are `(num_steps, num_logits)` a member; `num_compared` of the steps meet the reference."""
        self._members, self._logits = list(members), list(logits)
        self._search: Search = search
        self._form: Form = form
        self._num_compared, self._num_repetitions = num_compared, num_repetitions

    def run(self, report: Callable[[str], None] = lambda _: None) -> FusionFigures:
        """Build, time and compare; `report` is told what is under way."""
        with tempfile.TemporaryDirectory() as folder:
            store = TableStore(Path(folder))
            report("building the tables")
            fusion = self._build(self._search, self._form, store)
            report("building again from the store")
            restart_s = self._build(self._search, self._form, store).build_s
        report("timing a step")
        times = self._time(fusion)
        comparison = self._compare(fusion, report) if self._fits(1) else None
        dense = self._time_dense(report) if self._fits(len(self._members)) else None
        return FusionFigures(
            search=self._search,
            form=fusion.form,
            num_tokens=tuple(len(member.allowed) for member in self._members),
            num_anchors=len(self._members[0].anchor_ids),
            hidden=tuple(member.embeddings.shape[1] for member in self._members),
            build_s=fusion.build_s,
            restart_s=restart_s,
            member_bytes=fusion.member_bytes,
            step_ms=times["step"],
            softmax_ms=times["softmax"],
            batch_ms=times["batch"],
            dense_published_ms=dense,
            comparison=comparison,
        )

    def _build(self, search: Search, form: Form, store: TableStore | None = None) -> RelativeFusion:
        weights = [1 / len(self._members)] * len(self._members)
        return RelativeFusion(
            self._members,
            main=0,
            weights=weights,
            search=search,
            num_steps=NUM_STEPS,
            learning_rate=LEARNING_RATE,
            trust=1.0,
            main_ends=False,
            align_eos=False,
            max_candidates=None if form == "dense" else 32,
            form=form,
            store=store,
        )

    def _fits(self, num_matrices: int) -> bool:
        sizes = [4 * len(member.allowed) * len(member.anchor_ids) for member in self._members]
        return sum(sizes[:num_matrices]) <= DENSE_BYTES

    def _time(self, fusion: RelativeFusion) -> dict[str, Spread]:
        one = [rows[:1] for rows in self._logits]
        many = [rows[torch.arange(LARGE_BATCH, device=rows.device) % len(rows)] for rows in self._logits]
        cases: dict[str, Callable[[], object]] = {
            "step": lambda: fusion.fuse(one),
            "softmax": lambda: [torch.log_softmax(rows, dim=-1) for rows in one],
            "batch": lambda: fusion.fuse(many),
        }
        times = take_turns({name: _timed(case) for name, case in cases.items()}, self._num_repetitions)
        return {name: Spread(tuple(runs)) for name, runs in times.items()}

    def _time_dense(self, report: Callable[[str], None]) -> Spread:
        report("building the dense matrices")
        fusion = self._build("gradient", "dense")
        report("timing the published search over dense matrices")
        one = [rows[:1] for rows in self._logits]
        return Spread(tuple(take_turns({"dense": _timed(lambda: fusion.fuse(one))}, 3)["dense"]))

    def _compare(self, fusion: RelativeFusion, report: Callable[[str], None]) -> Comparison:
        report("computing the dense reference in float64")
        steps = torch.linspace(0, len(self._logits[0]) - 1, min(self._num_compared, len(self._logits[0]))).long()
        logits = [rows[steps.to(rows.device)] for rows in self._logits]
        weights = [1 / len(self._members)] * len(self._members)
        search = InverseSearch(self._search, NUM_STEPS, LEARNING_RATE)
        expected = fuse_densely(self._members, logits, main=0, weights=weights, search=search)
        with torch.inference_mode():
            parts = [
                fusion.fuse(part) for part in zip(*(torch.split(rows, LARGE_BATCH) for rows in logits), strict=True)
            ]
        return compare(expected, torch.cat(parts))


def compare(expected: Tensor, found: Tensor) -> Comparison:
    """How far logprobs `(num_steps, num_logits)` are from the expected ones: KL(expected || found), best tokens."""
    expected, found = expected.double(), found.double()
    terms = torch.where(expected > -torch.inf, expected.exp() * (expected - found), 0.0)
    losses = terms.sum(dim=-1)
    is_equal = expected.argmax(dim=-1) == found.argmax(dim=-1)
    return Comparison(
        num_steps=len(losses),
        kl_median=float(losses.median()),
        kl_p99=float(losses.quantile(0.99)),
        share_equal=float(is_equal.double().mean()),
    )


def _timed(case: Callable[[], object]) -> Callable[[], float]:
    """The case as a function that returns how many milliseconds it took, with what it left to an accelerator."""

    def run() -> float:
        with torch.inference_mode():
            begin = time.perf_counter()
            case()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            return 1000 * (time.perf_counter() - begin)

    return run
