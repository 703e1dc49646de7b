"""What a step of relative fusion costs and how close it comes to the dense reference, by size of the vocabularies."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Literal, final

import torch
from torch import Tensor

from deepen_llm.bench.reference import fuse_candidates, fuse_densely
from deepen_llm.bench.timing import Spread, take_turns
from deepen_llm.fusion.base import Distributions, Step
from deepen_llm.fusion.frame import FusionFrame
from deepen_llm.fusion.relative.build import build_from
from deepen_llm.fusion.relative.inverse import InverseSearch
from deepen_llm.fusion.relative.member_space import MemberSpace
from deepen_llm.fusion.relative.method import RelativeFusion
from deepen_llm.fusion.relative.settings import RelativeConfig
from deepen_llm.fusion.tokens import CanonicalTokens
from deepen_llm.table_store import TableStore

DEFAULTS = RelativeConfig()
"""Steps of the search, its learning rate and how many candidates it runs over are those that users get."""
DENSE_BYTES = 7e9
"""The dense form is built where all its matrices together take no more than this; a reference whose matrix takes more
makes its rows anew at each pass."""
LARGE_BATCH = 32
NUM_DENSE = 3
"""Timed steps of the dense published form, seconds each."""

Form = Literal["auto", "dense", "sampled"]
Search = Literal["multiplicative", "gradient"]


@final
@dataclass(frozen=True, slots=True)
class Comparison:
    """How far a form is from a dense float64 reference, over recorded steps."""

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
    dense_bytes: int
    """What these matrices take, float32, all members together."""
    comparison: Comparison | None
    """With the same search over all anchors in float64; None where none was asked for."""
    every_token: Comparison | None
    """With the search over every token and anchor in float64; None where none was asked for."""
    device: str
    """Of the main model: `cpu` or `cuda`."""


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
        compares_every_token: bool = False,
    ) -> None:
        """`logits` are `(num_steps, num_logits)` a member; `num_compared` steps, or none, meet the references."""
        self._compares_every_token = compares_every_token
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
        dense_bytes = sum(4 * len(member.allowed) * len(member.anchor_ids) for member in self._members)
        dense = self._time_dense(report) if dense_bytes <= DENSE_BYTES else None
        comparison = self._compare(fusion, report, every_token=False) if self._num_compared else None
        asks = self._num_compared > 0 and self._compares_every_token
        every_token = self._compare(fusion, report, every_token=True) if asks else None
        return FusionFigures(
            search=self._search,
            form=str(fusion.form),
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
            dense_bytes=dense_bytes,
            comparison=comparison,
            every_token=every_token,
            device=self._members[0].embeddings.device.type,
        )

    def _build(self, search: Search, form: Form, store: TableStore | None = None) -> RelativeFusion:
        return build_from(self._members, self._settings(search, form), 0, store=store)

    def _settings(self, search: Search, form: Form) -> RelativeConfig:
        max_candidates = None if form == "dense" else DEFAULTS.max_candidates
        return RelativeConfig(reading="token", align_eos=False, search=search, form=form, max_candidates=max_candidates)

    def _time(self, fusion: RelativeFusion) -> dict[str, Spread]:
        fuse = TokenFusion(fusion, self._members)
        cases: dict[str, Callable[[Sequence[Tensor]], object]] = {
            "step": fuse,
            "softmax": lambda logits: [torch.log_softmax(rows, dim=-1) for rows in logits],
        }
        timed = {name: _timed(case, self._batches(1)) for name, case in cases.items()}
        times = take_turns({**timed, "batch": _timed(fuse, self._batches(LARGE_BATCH))}, self._num_repetitions)
        return {name: Spread(tuple(runs)) for name, runs in times.items()}

    def _batches(self, size: int) -> Iterator[list[Tensor]]:
        """The logits of `size` steps at a time, all of them in turn, again and again.

        As in decoding, no step is the one before; on the machine at hand the same one again took just as long.
        """
        num_steps = len(self._logits[0])
        for begin in cycle(range(0, num_steps, size)):
            yield [rows[torch.arange(begin, begin + size, device=rows.device) % num_steps] for rows in self._logits]

    def _time_dense(self, report: Callable[[str], None]) -> Spread:
        report("building the dense matrices")
        fuse = TokenFusion(self._build("gradient", "dense"), self._members)
        report("timing the published search over dense matrices")
        return Spread(tuple(take_turns({"dense": _timed(fuse, self._batches(1))}, NUM_DENSE)["dense"]))

    def _compare(self, fusion: RelativeFusion, report: Callable[[str], None], *, every_token: bool) -> Comparison:
        num_steps = len(self._logits[0])
        steps = torch.linspace(0, num_steps - 1, min(self._num_compared, num_steps)).long()
        return compare_with_reference(
            fusion,
            self._settings(self._search, self._form),
            self._members,
            [rows[steps.to(rows.device)] for rows in self._logits],
            every_token=every_token,
            progress=lambda done: report(f"computing the dense reference in float64, {done:.0%}"),
        )


@final
class TokenFusion:
    """Fuses members token by token, with uniform weights and the first member as the main model."""

    def __init__(self, fusion: RelativeFusion, members: Sequence[MemberSpace]) -> None:
        """`fusion` was built from `members`; of their tokens, each that is allowed counts for itself."""
        self._num_members = len(members)
        tokens = [
            CanonicalTokens.build(
                [token_id if allowed else -1 for token_id, allowed in enumerate(member.allowed.tolist())],
                member.embeddings.device,
            )
            for member in members
        ]
        self._frame = FusionFrame(fusion, tokens, 0)

    def __call__(self, logits: Sequence[Tensor]) -> Tensor:
        """The fused logprobs `(batch, num_main_logits)` of logits `(batch, num_logits)` per member."""
        logprobs = self._frame.read_main(logits[0])
        others = [self._frame.read_tokens(index, rows) for index, rows in enumerate(logits) if index]
        weights = torch.full((len(logprobs), self._num_members), 1 / self._num_members)
        return self._frame.fuse(
            Step.build(Distributions(0, logprobs, logprobs.exp(), others, weights.shape[1]), weights), logprobs
        )


def compare_with_reference(
    fusion: RelativeFusion,
    config: RelativeConfig,
    members: Sequence[MemberSpace],
    logits: Sequence[Tensor],
    *,
    every_token: bool = False,
    progress: Callable[[float], None] = lambda _: None,
) -> Comparison:
    """How far relative fusion is from a dense float64 reference with the same search, over recorded steps.

    Weights are uniform, and the first member is the main model.

    Args:
        fusion: Built from `members` by `config`, without `align_eos`; for aligned end-of-sequence, give `build_from`
        and
            this function `member.with_eos_anchor()`.
        config: Its settings.
        members: One description per member.
        logits: Recorded steps, `(num_steps, num_logits)` per member.
        every_token: Let the reference search over every token, and not over as many candidates as the method.
        progress: Called with the share of the reference that is done.
    """
    weights = [1 / len(members)] * len(members)
    search = InverseSearch(config.search, config.num_steps, config.learning_rate)
    fuse = TokenFusion(fusion, members)
    with torch.inference_mode():
        if every_token or config.max_candidates is None:
            expected = fuse_densely(
                members,
                logits,
                main=0,
                weights=weights,
                search=search,
                max_kept_bytes=DENSE_BYTES,
                progress=progress,
            )
        else:
            expected = fuse_candidates(
                members,
                logits,
                main=0,
                weights=weights,
                search=search,
                max_candidates=config.max_candidates,
                progress=progress,
            )
        parts = [fuse(part) for part in zip(*(torch.split(rows, LARGE_BATCH) for rows in logits), strict=True)]
        return compare(expected, torch.cat(parts))


def compare(expected: Tensor, found: Tensor) -> Comparison:
    """How far logprobs `(num_steps, num_logits)` are from the expected ones: KL(expected || found), best tokens.

    Both are normalized in float64 first: the rounding of a float32 total would count as a divergence below 0.
    """
    expected, found = (torch.log_softmax(logprobs.double(), dim=-1) for logprobs in (expected, found))
    terms = torch.where(expected > -torch.inf, expected.exp() * (expected - found), 0.0)
    losses = terms.sum(dim=-1)
    is_equal = expected.argmax(dim=-1) == found.argmax(dim=-1)
    return Comparison(
        num_steps=len(losses),
        kl_median=float(losses.median()),
        kl_p99=float(losses.quantile(0.99)),
        share_equal=float(is_equal.double().mean()),
    )


def _timed(case: Callable[[Sequence[Tensor]], object], batches: Iterator[list[Tensor]]) -> Callable[[], float]:
    """The case as a function that returns how many milliseconds the next batch took, an accelerator's work included."""

    def run() -> float:
        with torch.inference_mode():
            logits = next(batches)
            _wait()
            begin = time.perf_counter()
            case(logits)
            _wait()
            return 1000 * (time.perf_counter() - begin)

    return run


def _wait() -> None:
    """Until an accelerator has nothing more to do."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
