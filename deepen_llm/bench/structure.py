"""What structured answers cost, and whether they always parse."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any, final

from deepen_llm.bench.timing import Spread, ratios, take_turns
from deepen_llm.config import SamplingParams
from deepen_llm.ensemble import Ensemble
from deepen_llm.results import Generation
from deepen_llm.structure import Constraint, StructureCompiler

TEMPERATURES = (0.0, 1.0, 5.0)
PROMPT = "Question: What was ordered, and by whom?\nAnswer:"
ITEM: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "price": {"type": "number"},
        "kind": {"enum": ["tool", "toy", "food"]},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    },
    "required": ["name", "price", "kind", "note"],
}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "customer": {"type": "string"},
        "code": {"type": "string", "pattern": "^[A-Z]{3}-[0-9]{4}$"},
        "day": {"type": "string", "format": "date"},
        "items": {"type": "array", "items": ITEM, "minItems": 1, "maxItems": 3},
    },
    "required": ["customer", "code", "day", "items"],
}
"""An order: free strings, a pattern, a date, numbers, a choice, a list of objects."""


@dataclass(frozen=True, slots=True)
class StructureFigures:
    """What was measured. Times in seconds."""

    tables_s: float
    """Tables over the main model's vocabulary, made once at the first structured request."""
    compile_s: float
    """A schema that was not seen before, the way to its shortest answer included."""
    mask_s: float
    """Which tokens may come, and taking one in: the median of all tokens of an answer."""
    time_ratio: Spread
    """Time per token of structured answers over that of free ones."""
    share_forced: float
    """The share of the structured answers' tokens for which no member was asked."""
    num_answers: int
    num_parsed: int
    """Answers that are JSON."""
    num_shortened: int
    """Answers that were closed before their tokens ran out."""


@final
class StructureBenchmark:
    """Measures one ensemble with one schema."""

    def __init__(
        self,
        ensemble: Ensemble,
        schema: Mapping[str, Any] = SCHEMA,
        *,
        num_tokens: int = 200,
        num_seeds: int = 20,
        num_repetitions: int = 5,
    ) -> None:
        """`num_tokens` is the limit of an answer; each of the temperatures answers with each of `num_seeds` seeds."""
        self._ensemble, self._schema = ensemble, dict(schema)
        self._num_tokens, self._num_seeds, self._num_repetitions = num_tokens, num_seeds, num_repetitions

    def run(self, report: Callable[[str], None] = lambda _: None) -> StructureFigures:
        """Measure; `report` is told what is measured next.

        Raises:
            GrammarError: The schema cannot be expressed.
        """
        report("compiling")
        tables_s, compile_s, compiler = self._compile()
        report("answering")
        answers = [
            self._answer(temperature=temperature, seed=seed)
            for temperature in TEMPERATURES
            for seed in range(self._num_seeds)
        ]
        report("following an answer")
        mask_s = self._follow(compiler, max(answers, key=lambda answer: len(answer.token_ids)))
        report("timing")
        num_tokens = sum(len(answer.token_ids) for answer in answers)
        return StructureFigures(
            tables_s=tables_s,
            compile_s=compile_s,
            mask_s=mask_s,
            time_ratio=self._time(),
            share_forced=sum(answer.fusion.num_forced for answer in answers if answer.fusion) / num_tokens,
            num_answers=len(answers),
            num_parsed=sum(is_json(answer.text) for answer in answers),
            num_shortened=sum(answer.is_shortened for answer in answers),
        )

    def _compile(self) -> tuple[float, float, StructureCompiler]:
        """Tables, then the schema: each as long as the first request waits for it."""
        compiler = StructureCompiler(self._ensemble.members[self._main].vocabulary)
        begin = time.perf_counter()
        compiler.compile(SamplingParams(regex="x"))
        middle = time.perf_counter()
        compiler.compile(SamplingParams(json_schema=self._schema))
        return middle - begin, time.perf_counter() - middle, compiler

    def _answer(self, **params: Any) -> Generation:
        settings = {"json_schema": self._schema, "max_new_tokens": self._num_tokens, **params}
        return self._ensemble.generate(PROMPT, SamplingParams(**settings))

    def _follow(self, compiler: StructureCompiler, answer: Generation) -> float:
        """The median time in which the constraint takes one token of an answer."""
        constraint = Constraint(compiler, compiler.compile(SamplingParams(json_schema=self._schema)))
        times = []
        for token_id in answer.token_ids:
            begin = time.perf_counter()
            constraint.allowed()
            constraint.push(token_id)
            times.append(time.perf_counter() - begin)
        return median(times)

    def _time(self) -> Spread:
        """Structured and free answers in turn."""

        def time_a_token(**params: Any) -> float:
            begin = time.perf_counter()
            answer = self._answer(**params)
            return (time.perf_counter() - begin) / len(answer.token_ids)

        times = take_turns(
            {
                "structured": lambda: time_a_token(temperature=1.0, seed=0),
                "free": lambda: time_a_token(temperature=1.0, seed=0, json_schema=None, ignore_eos=True),
            },
            self._num_repetitions,
        )
        return ratios(times, ("structured",), ("free",))

    @property
    def _main(self) -> int:
        return self._ensemble.member_names.index(self._ensemble.main_name)


def is_json(text: str) -> bool:
    """Whether a text parses."""
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
