"""What a token of an ensemble costs: beside its members alone, the published form, longer contexts and more prompts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, final

import torch
from transformers import AutoModelForCausalLM

from deepen_llm.bench.baseline import RecomputingEnsemble
from deepen_llm.bench.timing import Spread, Times, ratios, take_turns
from deepen_llm.config import MemberConfig, SamplingParams
from deepen_llm.ensemble import Ensemble
from deepen_llm.errors import ConfigError
from deepen_llm.members.transformers.settings import TransformersConfig

PROMPT = "Once upon a time, there was"
SENTENCES = (
    "A boy and his dog went to the park to play with a red ball.",
    "The sun was warm and the birds sang in the old tree.",
    "They ran and laughed until it was time to go home.",
    "At home there was bread and soup, and they were happy.",
    "The next day a girl came to the garden with her cat.",
    "She gave the boy a book about boats and the sea.",
    "They read it together under the tree and made a small boat.",
    "The boat was blue and it could swim in the pond.",
)
NUM_THREADS = 16
NUM_PROMPTS = 8
SHORT_CONTEXT, LONG_CONTEXT = 50, 400
NUM_AT_CONTEXT = 32


@dataclass(frozen=True)
class Finding:
    """One figure of the benchmark with its target. `milliseconds` are medians per token where nothing else is said."""

    name: str
    value: Spread
    target: float
    wants: Literal["at most", "at least"]
    milliseconds: dict[str, float] = field(default_factory=dict)
    note: str = ""

    @property
    def is_met(self) -> bool:
        """Whether the median reaches the target."""
        value = self.value.median
        return value <= self.target if self.wants == "at most" else value >= self.target


@final
class DecodeBenchmark:
    """Runs the measurements one by one; all decoding is greedy and of fixed length."""

    def __init__(self, ensemble: Ensemble, *, num_tokens: int = 200, num_repetitions: int = 5) -> None:
        """Load every member once more, to be run by itself.

        Raises:
            MemberError: A member failed in the run that finds out how many tokens fit.
        """
        self._ensemble = ensemble
        self._models = [load_model(config) for config in ensemble.config.members]
        self._num_repetitions = num_repetitions
        self.num_tokens = ensemble.generate(PROMPT, _fixed(num_tokens)).usage.completion_tokens
        self.note = "" if self.num_tokens == num_tokens else self._explain_shorter(num_tokens)

    def run(self) -> Iterator[Finding]:
        """Every finding, as soon as it is there."""
        yield self.measure_against_members()
        yield self.measure_against_baseline()
        yield self.measure_context()
        yield self.measure_batch()
        yield self.measure_threads()

    def measure_against_members(self) -> Finding:
        """Time per token, over the sum of what the members' own `generate` takes per token."""
        cases: dict[str, Callable[[], float]] = {"ensemble": partial(self._time_ensemble, PROMPT)}
        for member, model in zip(self._ensemble.members, self._models, strict=True):
            ids = list(member.vocabulary.encode_prompt(PROMPT).ids)
            cases[member.name] = partial(time_own_generate, model, ids, self.num_tokens)
        times = take_turns(cases, self._num_repetitions)
        value = ratios(times, ("ensemble",), self._ensemble.member_names)
        name = f"time per token / sum of the members' own generate, {self.num_tokens} tokens"
        return Finding(name, value, 1.0, "at most", _milliseconds(times), self.note)

    def measure_against_baseline(self) -> Finding:
        """How many times faster than recomputing every context, with AdamW on dense float32 matrices."""
        baseline = RecomputingEnsemble(self._models, [member.vocabulary for member in self._ensemble.members])

        def time_baseline() -> float:
            begin = time.perf_counter()
            baseline.generate(PROMPT, self.num_tokens)
            return (time.perf_counter() - begin) / self.num_tokens

        cases: dict[str, Callable[[], float]] = {
            "baseline": time_baseline,
            "ensemble": partial(self._time_ensemble, PROMPT),
        }
        times = take_turns(cases, min(self._num_repetitions, 3))
        value = ratios(times, ("baseline",), ("ensemble",))
        name = f"times faster than recomputing and AdamW in float32, {self.num_tokens} tokens"
        return Finding(name, value, 4.0, "at least", _milliseconds(times), self.note)

    def measure_context(self) -> Finding:
        """Time per token in a long context over that in a short one."""
        long = self._longest_context()
        note = "" if long == LONG_CONTEXT else f"{LONG_CONTEXT} tokens do not fit: {self._name_smallest()}"
        cases: dict[str, Callable[[], float]] = {
            f"at {length} tokens": partial(self._time_at_context, self._make_prompt(length - NUM_AT_CONTEXT // 2))
            for length in (SHORT_CONTEXT, long)
        }
        times = take_turns(cases, 2 * self._num_repetitions)
        value = ratios(times, (f"at {long} tokens",), (f"at {SHORT_CONTEXT} tokens",))
        name = f"time per token at {long} tokens of context / at {SHORT_CONTEXT}"
        return Finding(name, value, 1.3, "at most", _milliseconds(times), note)

    def measure_batch(self) -> Finding:
        """Tokens per second of several prompts at once over those of one."""
        prompts = list(SENTENCES[:NUM_PROMPTS])
        num_tokens = self.num_tokens // 2

        def time_all() -> float:
            begin = time.perf_counter()
            answers = self._ensemble.generate(prompts, _fixed(num_tokens))
            return (time.perf_counter() - begin) / sum(answer.usage.completion_tokens for answer in answers)

        time_one = partial(self._time_ensemble, prompts[0], num_tokens)
        times = take_turns({"one prompt": time_one, "all at once": time_all}, self._num_repetitions)
        value = ratios(times, ("one prompt",), ("all at once",))
        name = f"tokens per second of {NUM_PROMPTS} prompts at once / of one, {num_tokens} tokens"
        return Finding(name, value, 4.0, "at least", _milliseconds(times))

    def measure_threads(self) -> Finding:
        """How many of 16 threads on one ensemble get exactly what they get alone."""
        prompts = [f"{sentence} {PROMPT}"[cut:] for cut in (0, 2) for sentence in SENTENCES]
        num_tokens = min(40, self.num_tokens)
        alone = [self._ensemble.generate(prompt, _fixed(num_tokens)) for prompt in prompts]
        with ThreadPoolExecutor(NUM_THREADS) as pool:
            together = list(pool.map(lambda prompt: self._ensemble.generate(prompt, _fixed(num_tokens)), prompts))
        num_equal = sum(a == b for a, b in zip(alone, together, strict=True))
        name = f"of {NUM_THREADS} threads get exactly what they get alone, {num_tokens} tokens"
        return Finding(name, Spread((float(num_equal),)), float(NUM_THREADS), "at least")

    def _time_ensemble(self, prompt: str, num_tokens: int | None = None) -> float:
        begin = time.perf_counter()
        answer = self._ensemble.generate(prompt, _fixed(num_tokens or self.num_tokens))
        return (time.perf_counter() - begin) / answer.usage.completion_tokens

    def _time_at_context(self, prompt: str) -> float:
        """Seconds per token after the first piece of the answer, the prefill left out."""
        marks: list[tuple[float, int]] = []
        with self._ensemble.stream(prompt, _fixed(NUM_AT_CONTEXT)) as stream:
            num_tokens = 0
            for chunk in stream:
                num_tokens += len(chunk.token_ids)
                marks.append((time.perf_counter(), num_tokens))
        (begin, before), (end, after) = marks[0], marks[-1]
        return (end - begin) / (after - before)

    def _make_prompt(self, num_tokens: int) -> str:
        """A text of about so many tokens of the main model."""
        words = " ".join(SENTENCES * (1 + num_tokens // 40)).split()
        size = 1
        while self._ensemble.count_tokens(" ".join(words[:size])) < num_tokens and size < len(words):
            size += 1
        return " ".join(words[:size])

    def _longest_context(self) -> int:
        """At most `LONG_CONTEXT`, and what every member has room for."""
        prompt = self._make_prompt(SHORT_CONTEXT)
        num_main = self._ensemble.count_tokens(prompt)
        room = [
            member.context_length * num_main / len(member.vocabulary.encode_prompt(prompt).ids) - NUM_AT_CONTEXT
            for member in self._ensemble.members
        ]
        return min(LONG_CONTEXT, int(min(room)) // 10 * 10)

    def _explain_shorter(self, asked: int) -> str:
        return f"{self.num_tokens} tokens and not {asked}: {self._name_smallest()}"

    def _name_smallest(self) -> str:
        smallest = min(self._ensemble.members, key=lambda member: member.context_length)
        return f"the context of {smallest.name} holds {smallest.context_length} tokens"


def time_own_generate(model: Any, ids: Sequence[int], num_tokens: int) -> float:
    """Seconds per token of transformers' own greedy `generate`, at its leanest: nothing processes the logits."""
    begin = time.perf_counter()
    inputs = torch.tensor([ids], device=model.device)
    outputs = model.generate(
        inputs,
        attention_mask=torch.ones_like(inputs),
        max_new_tokens=num_tokens,
        do_sample=False,
        pad_token_id=0,
    )
    num_new: int = outputs.shape[1] - inputs.shape[1]
    return (time.perf_counter() - begin) / num_new


def load_model(config: MemberConfig) -> Any:
    """The model of a member as transformers runs it, without an end-of-sequence token that would stop it early.

    Raises:
        ConfigError: A member of another kind.
    """
    if not isinstance(config, TransformersConfig):
        raise ConfigError(
            f"decoding is measured against transformers; {config.model!r} is a member of kind {config.kind!r}"
        )
    placement = {"device_map": config.device_map} if config.device_map is not None else {}
    model: Any = AutoModelForCausalLM.from_pretrained(
        config.model,
        dtype=config.dtype,
        revision=config.revision or "main",
        local_files_only=config.local_files_only,
        trust_remote_code=config.trust_remote_code,
        use_safetensors=True,
        **placement,
        **config.model_kwargs,
    )
    model.generation_config.eos_token_id = None
    if config.device is not None:
        model = model.to(config.device)
    return model.eval()


def _fixed(num_tokens: int) -> SamplingParams:
    return SamplingParams(max_new_tokens=num_tokens, ignore_eos=True)


def _milliseconds(times: Times) -> dict[str, float]:
    return {name: 1000 * Spread(tuple(runs)).median for name, runs in times.items()}
