"""A GGUF member beside the same model in transformers, beside another member, and beside llama.cpp by itself."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import final

import torch

from deepen_llm.bench.decode import PROMPT, SENTENCES, Finding
from deepen_llm.bench.timing import Spread, ratios, take_turns
from deepen_llm.config import EnsembleConfig, FusionConfig, MemberConfig, SamplingParams
from deepen_llm.ensemble import Ensemble
from deepen_llm.members.borrowed import BorrowedMember
from deepen_llm.members.gguf.declarations import Batch
from deepen_llm.members.gguf.library import load_library
from deepen_llm.members.gguf.model import LlamaModel, count_threads
from deepen_llm.members.gguf.settings import GGUFConfig

OPENINGS = (
    "The capital of France is",
    "To make bread, you need",
    "def add(a, b):",
    "In the year 1905,",
    "Water boils at",
    "The best way to learn is",
    "My favourite animal is the",
    "A list of fruits: apple,",
    "Question: What is 2 + 2? Answer:",
    "Dear Sir or Madam,",
    "import numpy as np\n",
    PROMPT,
)
EQUAL_PROMPTS = (*SENTENCES, *OPENINGS)
NUM_EQUAL = 64
"""Tokens of each answer that is compared."""
ALONE, IN_FLOAT32, BESIDE, SAFE, MANY = "alone", "transformers float32", "with another", "safe", "8 at once"


@final
class GGUFBenchmark:
    """Runs the measurements; all decoding is greedy, and of fixed length where it is timed."""

    def __init__(
        self,
        config: GGUFConfig,
        reference: str,
        other: str,
        *,
        num_tokens: int = 32,
        num_repetitions: int = 9,
    ) -> None:
        """Load everything.

        Args:
            config: The GGUF member.
            reference: A folder with the same model as transformers has it.
            other: A model that stands beside it in an ensemble.
            num_tokens: Of each answer that is timed.
            num_repetitions: Runs of each case.

        Raises:
            MemberError: A model that cannot be loaded.
        """
        self._config, self._num_tokens, self._num_repetitions = config, num_tokens, num_repetitions
        member, second = config.load(), MemberConfig(model=other).load()
        self._members = (member, second)
        both = EnsembleConfig(members=(config, MemberConfig(model=other)))
        safe = both.replace(fusion=FusionConfig(method="text", fuse="safe"))
        lent = [BorrowedMember(member), BorrowedMember(second)]
        self._ensembles = {
            ALONE: Ensemble(lent[:1]),
            IN_FLOAT32: Ensemble.from_pretrained(reference, dtype="float32"),
            BESIDE: Ensemble(lent, both),
            SAFE: Ensemble(lent, safe),
        }

    def run(self) -> Iterator[Finding]:
        """Every finding."""
        yield from self.measure_speed()
        yield self.count_equal_texts()

    def close(self) -> None:
        """Free every model."""
        for ensemble in self._ensembles.values():
            ensemble.close()
        for member in self._members:
            member.close()

    def measure_speed(self) -> list[Finding]:
        """Times per token of one run in which all cases take turns, as ratios."""
        cases: dict[str, Callable[[], float]] = {name: partial(self._time, name, [PROMPT]) for name in self._ensembles}
        cases[MANY] = partial(self._time, ALONE, list(SENTENCES))
        times = take_turns(cases, self._num_repetitions)
        milliseconds = {name: 1000 * Spread(tuple(runs)).median for name, runs in times.items()}

        def find(name: str, over: str, under: str, target: float, *, is_most: bool) -> Finding:
            value = ratios(times, (over,), (under,))
            return Finding(name, value, target, "at most" if is_most else "at least", milliseconds)

        return [
            find("times the tokens per second of transformers in float32", IN_FLOAT32, ALONE, 4.0, is_most=False),
            find("time per token with another member / alone", BESIDE, ALONE, 1.3, is_most=True),
            find("time per token with another member, text and fuse='safe' / alone", SAFE, ALONE, 1.3, is_most=True),
            find("tokens per second of 8 prompts at once / of one", ALONE, MANY, 1.0, is_most=False),
        ]

    def count_equal_texts(self) -> Finding:
        """Of how many prompts an ensemble of one says what llama.cpp says by itself, with its own settings."""
        ensemble, params = self._ensembles[ALONE], SamplingParams(max_new_tokens=NUM_EQUAL)
        plain = PlainLoop(self._config)
        num_equal = 0
        for prompt in EQUAL_PROMPTS:
            ids = self._members[0].vocabulary.encode_prompt(prompt).ids
            said = ensemble.generate(prompt, params)
            num_equal += plain.generate(ids, NUM_EQUAL)[: len(said.token_ids)] == list(said.token_ids)
        plain.close()
        name = f"of {len(EQUAL_PROMPTS)} texts equal llama.cpp's own, {NUM_EQUAL} tokens"
        return Finding(name, Spread((float(num_equal),)), float(len(EQUAL_PROMPTS)), "at least")

    def _time(self, name: str, prompts: list[str]) -> float:
        """Seconds per token of all answers."""
        begin = time.perf_counter()
        answers = self._ensembles[name].generate(
            prompts, SamplingParams(max_new_tokens=self._num_tokens, ignore_eos=True)
        )
        return (time.perf_counter() - begin) / sum(answer.usage.completion_tokens for answer in answers)


@final
class PlainLoop:
    """llama.cpp by itself, as its own examples call it: the prompt, then its best token, again and again."""

    def __init__(self, config: GGUFConfig) -> None:
        """Load the file again, with the settings that llama.cpp has by default."""
        self._library = load_library()
        self._threads = config.threads or count_threads()
        self._model = LlamaModel(Path(config.model), config, "plain")

    def generate(self, ids: Sequence[int], num_tokens: int) -> list[int]:
        """The best tokens after some, up to an end."""
        library = self._library
        params = library.llama_context_default_params()
        params.n_threads = params.n_threads_batch = self._threads
        context = library.llama_init_from_model(self._model.pointer, params)
        num_logits = library.llama_vocab_n_tokens(self._model.vocab)
        said: list[int] = []
        fed = list(ids)
        while len(said) < num_tokens:
            tokens = (ctypes.c_int32 * len(fed))(*fed)
            if library.llama_decode(context, Batch(len(fed), tokens)) != 0:
                raise RuntimeError("llama.cpp failed")
            logits = (ctypes.c_float * num_logits).from_address(library.llama_get_logits(context))
            fed = [int(torch.frombuffer(logits, dtype=torch.float32).argmax())]
            said += fed
            if library.llama_vocab_is_eog(self._model.vocab, fed[0]):
                break
        library.llama_free(context)
        return said

    def close(self) -> None:
        """Free the model."""
        self._model.free()
