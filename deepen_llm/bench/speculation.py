"""What reading ahead saves: an ensemble with it and without, beside its members' own `generate`, text by text."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import final

from deepen_llm.bench.decode import Finding, load_model, time_own_generate
from deepen_llm.bench.forgetful import make_forgetful
from deepen_llm.bench.gguf import PlainLoop
from deepen_llm.bench.timing import Spread
from deepen_llm.config import MemberConfig, SamplingParams
from deepen_llm.ensemble import Ensemble
from deepen_llm.members.base import Member
from deepen_llm.members.gguf.settings import GGUFConfig
from deepen_llm.results import Generation

CHATS = (
    "What is the capital of France, and what can one see there?",
    "Write a list of five animals and say a sentence about each.",
    "Explain why the sky is blue.",
    "How do I cook rice?",
    "Give me three tips for learning a language.",
    "What are the benefits of regular exercise?",
    "How do airplanes fly?",
    "Describe the life of a honey bee.",
)
STORIES = (
    "Once upon a time, there was a little girl named Lily.",
    "The old man went to the sea every day,",
    "It was a dark night, and",
    "The dog ran into the forest because",
    "In a small village by the river lived",
    "Tom and his sister wanted to build a boat.",
    "The queen looked out of the window and",
    "One morning, a bird came to the garden and",
)
PLAIN, AHEAD = "without reading ahead", "reading ahead"


@final
@dataclass(frozen=True, slots=True)
class SpeculationRow:
    """One text: seconds per token, and what was read ahead."""

    prompt: str
    own_s: tuple[float, ...]
    """Each member's own `generate`."""
    plain_s: float
    ahead_s: float
    answers: tuple[Generation, Generation]
    """Without reading ahead, and with it."""

    @property
    def is_same(self) -> bool:
        """Whether both say the same."""
        return self.answers[0].token_ids == self.answers[1].token_ids


@final
class SpeculationBenchmark:
    """Greedy answers of fixed length; no text comes twice, and none is drafted from another's answer."""

    def __init__(self, ensemble: Ensemble, *, num_tokens: int = 128) -> None:
        """Load every member once more, to be run by itself; the ensemble lends its members.

        Raises:
            MemberError: A member that cannot be loaded again.
            ConfigError: A member that runs neither in transformers nor in llama.cpp.
        """
        self._ensemble, self._num_tokens = ensemble, num_tokens
        self._main = ensemble.member_names.index(ensemble.main_name)
        self._params = SamplingParams(max_new_tokens=num_tokens, ignore_eos=True)
        self._own = [_load_own(config) for config in ensemble.config.members]
        self._open = ExitStack()
        self._ensembles = {
            name: self._open.enter_context(make_forgetful(ensemble, num_speculative_tokens=num))
            for name, num in ((PLAIN, 0), (AHEAD, ensemble.config.num_speculative_tokens))
        }

    def run(self) -> Iterator[Finding]:
        """Every finding, a kind of text at a time: chats where the main model has a template for them, and stories."""
        self._measure_row(STORIES[0][:9], is_chat=False)  # what a first run prepares counts for nobody
        kinds = {"chats": CHATS} if self._ensemble.has_chat_template else {}
        for kind, prompts in (kinds | {"stories": STORIES}).items():
            rows = [self._measure_row(prompt, is_chat=kind == "chats") for prompt in prompts]
            yield from self._find(kind, rows)

    def close(self) -> None:
        """Free what was made here; the ensemble that lent its members stays as it is."""
        self._open.close()

    def _find(self, kind: str, rows: Sequence[SpeculationRow]) -> Iterator[Finding]:
        """The figures of one kind of text."""
        tail = f"{kind}, {self._num_tokens} tokens"
        milliseconds = {
            PLAIN: 1000 * Spread(tuple(row.plain_s for row in rows)).median,
            AHEAD: 1000 * Spread(tuple(row.ahead_s for row in rows)).median,
            "main alone": 1000 * Spread(tuple(row.own_s[self._main] for row in rows)).median,
        }
        drafted = [report for row in rows if (report := row.answers[1].fusion) is not None]
        num_drafted = sum(report.num_drafted for report in drafted)
        num_accepted = sum(report.num_accepted for report in drafted)
        num_steps = sum(report.num_steps for report in drafted)
        note = f"of {num_steps} tokens {num_accepted} were read ahead ({num_drafted} drafted)"

        def compare(name: str, target: float, value: Callable[[SpeculationRow], float]) -> Finding:
            return Finding(f"{name}, {tail}", Spread(tuple(map(value, rows))), target, "at most", milliseconds, note)

        yield compare("time per token / the main model's own generate", 0.75, lambda r: r.ahead_s / r.own_s[self._main])
        yield compare("time per token / sum of the members' own generate", 1.0, lambda r: r.ahead_s / sum(r.own_s))
        yield compare("time per token / without reading ahead", 1.0, lambda r: r.ahead_s / r.plain_s)
        num_same = Spread((float(sum(row.is_same for row in rows)),))
        yield Finding(
            f"of {len(rows)} texts are the same without reading ahead, {tail}", num_same, len(rows), "at least"
        )

    def _measure_row(self, prompt: str, *, is_chat: bool) -> SpeculationRow:
        """One text by everybody, one after the other."""
        own = [
            generate(_encode(member, prompt, is_chat=is_chat), self._num_tokens)
            for generate, member in zip(self._own, self._ensemble.members, strict=True)
        ]
        timed = {name: self._time(ensemble, prompt, is_chat=is_chat) for name, ensemble in self._ensembles.items()}
        (plain, plain_s), (ahead, ahead_s) = timed[PLAIN], timed[AHEAD]
        return SpeculationRow(prompt, tuple(own), plain_s, ahead_s, (plain, ahead))

    def _time(self, ensemble: Ensemble, prompt: str, *, is_chat: bool) -> tuple[Generation, float]:
        """An answer, and its seconds per token."""
        begin = time.perf_counter()
        if is_chat:
            answer = ensemble.chat([{"role": "user", "content": prompt}], self._params)
        else:
            answer = ensemble.generate(prompt, self._params)
        return answer, (time.perf_counter() - begin) / answer.usage.completion_tokens


def _load_own(config: MemberConfig) -> Callable[[Sequence[int], int], float]:
    """What runs a member by itself, for its seconds per token."""
    if isinstance(config, GGUFConfig):
        return partial(_time_plain_loop, PlainLoop(config))
    return partial(time_own_generate, load_model(config))


def _time_plain_loop(loop: PlainLoop, ids: Sequence[int], num_tokens: int) -> float:
    begin = time.perf_counter()
    num_said = len(loop.generate(ids, num_tokens))
    return (time.perf_counter() - begin) / num_said


def _encode(member: Member, prompt: str, *, is_chat: bool) -> Sequence[int]:
    """A member's tokens of a prompt."""
    vocabulary = member.vocabulary
    encoded = vocabulary.encode_chat([{"role": "user", "content": prompt}]) if is_chat else None
    return (encoded or vocabulary.encode_prompt(prompt)).ids
