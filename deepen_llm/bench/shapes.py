"""Decoding at the sizes of real models without their weights: random ones, with real tokenizers.

What a step costs does not depend on what the weights are, but on how many bytes of them are read. Text means nothing
here, so nothing is read ahead, and reading as text finds little to look at: the figure is that of the passes and of the
fusion.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, MistralConfig, PreTrainedConfig, Qwen2Config

from deepen_llm.bench.decode import PROMPT, Finding, time_own_generate
from deepen_llm.bench.timing import Spread, ratios, take_turns
from deepen_llm.config import EnsembleConfig, FusionConfig, MemberConfig, SamplingParams
from deepen_llm.ensemble import Ensemble
from deepen_llm.errors import ConfigError, quote
from deepen_llm.members.transformers import TransformersMember

COPIED_BYTES = {"cuda": 1 << 30, "cpu": 1 << 28}
"""How much is copied to measure bandwidth: far beyond any cache."""
ROUND_TO = 64
"""Vocabularies are padded to a multiple of so many tokens, as those of real models are."""


@dataclass(frozen=True)
class Shape:
    """A model's sizes."""

    name: str
    tokenizer: str
    """How the name of its tokenizer's folder begins."""
    config_class: Callable[..., PreTrainedConfig]
    sizes: dict[str, Any]


def _size(hidden: int, layers: int, heads: int, kv_heads: int, inner: int, vocab: int, **others: Any) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": inner,
        "vocab_size": vocab,
        **others,
    }


TIED = {"tie_word_embeddings": True}
SHAPES = {
    "7b": (
        Shape("mistral-7b", "mistral", MistralConfig, _size(4096, 32, 32, 8, 14336, 32768, sliding_window=None)),
        Shape("qwen2-7b", "qwen2", Qwen2Config, _size(3584, 28, 28, 4, 18944, 152064)),
    ),
    "135m": (
        Shape("smollm-135m", "mistral", LlamaConfig, _size(576, 30, 9, 3, 1536, 32768, **TIED)),
        Shape("qwen2-135m", "qwen2", Qwen2Config, _size(576, 24, 9, 3, 1536, 151936, **TIED)),
    ),
    "tiny": (
        Shape("tiny-llama", "mistral", LlamaConfig, _size(64, 2, 4, 2, 128, 512, **TIED)),
        Shape("tiny-qwen2", "qwen2", Qwen2Config, _size(32, 2, 2, 1, 64, 512, **TIED)),
    ),
}
"""Pairs of shapes by name: those of Mistral-7B-v0.3 and Qwen2-7B, of SmolLM-135M beside one like it, and of none."""


@final
class ShapesBenchmark:
    """Two random models of some shapes: their ensemble beside each one's own `generate` and the bandwidth limit."""

    def __init__(
        self,
        shapes: str,
        tokenizers: Path,
        *,
        num_tokens: int = 64,
        num_repetitions: int = 5,
        device: str | None = None,
    ) -> None:
        """Make the models, in bfloat16 on a GPU where there is one, else in float32.

        Raises:
            ConfigError: Not a name of `SHAPES`, or no two tokenizers in the folder.
        """
        if shapes not in SHAPES:
            raise ConfigError(f"--shapes must be one of {', '.join(SHAPES)}; got {quote(shapes)}")
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._num_tokens, self._num_repetitions = num_tokens, num_repetitions
        folders = find_tokenizers(tokenizers, [shape.tokenizer for shape in SHAPES[shapes]])
        self._members = [
            _make_member(shape, folder, self._device) for shape, folder in zip(SHAPES[shapes], folders, strict=True)
        ]
        config = EnsembleConfig(
            members=tuple(MemberConfig(model=member.name) for member in self._members),
            fusion=FusionConfig(method="text"),
            num_speculative_tokens=0,
        )
        self.ensemble = Ensemble(list(self._members), config)
        self.ensemble.generate(PROMPT, _fixed(2))

    def run(self) -> Iterator[Finding]:
        """The time of a token over what both members' `generate` take, and over what moving the weights takes."""
        cases: dict[str, Callable[[], float]] = {"ensemble": self._time_ensemble, "limit": self._time_limit}
        for member in self._members:
            ids = list(member.vocabulary.encode_prompt(PROMPT).ids)
            cases[member.name] = partial(time_own_generate, _without_end(member._model), ids, self._num_tokens)
        times = take_turns(cases, self._num_repetitions)
        shown = {name: 1000 * Spread(tuple(runs)).median for name, runs in times.items()}
        names, bytes_note = (
            tuple(member.name for member in self._members),
            f"{self._count_bytes() / 1e9:.2f} GB a token",
        )
        of = f"of {' and '.join(names)}, {self._num_tokens} tokens"
        yield Finding(
            f"time per token / sum of generate {of}", ratios(times, ("ensemble",), names), 1.0, "at most", shown
        )
        yield Finding(
            f"time per token / generate of {names[0]} alone", ratios(times, ("ensemble",), names[:1]), 2.0, "at most"
        )
        limit = ratios(times, ("ensemble",), ("limit",))
        yield Finding("time per token / its bytes at the speed of a copy", limit, 2.0, "at most", note=bytes_note)

    def _time_ensemble(self) -> float:
        begin = time.perf_counter()
        answer = self.ensemble.generate(PROMPT, _fixed(self._num_tokens))
        return (time.perf_counter() - begin) / answer.usage.completion_tokens

    def _time_limit(self) -> float:
        """Seconds that the bytes of a token take at the speed at which memory is copied."""
        source = torch.zeros(COPIED_BYTES[self._device.type], dtype=torch.uint8, device=self._device)
        target = torch.empty_like(source)
        _copy(source, target)
        begin = time.perf_counter()
        _copy(source, target)
        return self._count_bytes() * (time.perf_counter() - begin) / (2 * source.nbytes)

    def _count_bytes(self) -> int:
        """Of the weights that a token reads: all but the table of embeddings, of which it reads a row."""
        return sum(count_read_bytes(member._model) for member in self._members)


def count_read_bytes(model: Any) -> int:
    """Bytes of a model's weights that a pass over one token reads."""
    embeddings, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    skipped = 0 if embeddings is head else embeddings.nbytes
    return int(sum(weight.nbytes for weight in model.parameters()) - skipped)


def find_tokenizers(folder: Path, beginnings: Sequence[str]) -> list[Path]:
    """A tokenizer's folder for each model: one whose name begins as is said, or else any that no other model has.

    Raises:
        ConfigError: Too few folders with a tokenizer.json in the folder.
    """
    free = sorted(file.parent for file in folder.glob("*/tokenizer.json"))
    if len(free) < len(beginnings):
        raise ConfigError(
            f"--tokenizers must name a folder with {len(beginnings)} folders or more in it that hold a tokenizer.json; "
            f"{quote(str(folder))} has {len(free)}"
        )
    found = []
    for beginning in beginnings:
        found.append(next((path for path in free if path.name.startswith(beginning)), free[0]))
        free.remove(found[-1])
    return found


def _make_member(shape: Shape, folder: Path, device: torch.device) -> TransformersMember:
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    num_tokens = max(shape.sizes["vocab_size"], -(-len(tokenizer) // ROUND_TO) * ROUND_TO)
    config = shape.config_class(**{**shape.sizes, "vocab_size": num_tokens}, bos_token_id=None, eos_token_id=None)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    torch.manual_seed(0)
    with device:
        model: Any = AutoModelForCausalLM.from_config(config, dtype=dtype)  # type: ignore[no-untyped-call]
    return TransformersMember(model, tokenizer, name=shape.name)


def _without_end(model: Any) -> Any:
    model.generation_config.eos_token_id = None
    return model


def _copy(source: Tensor, target: Tensor) -> None:
    target.copy_(source)
    if target.is_cuda:
        torch.cuda.synchronize(target.device)


def _fixed(num_tokens: int) -> SamplingParams:
    return SamplingParams(max_new_tokens=num_tokens, ignore_eos=True)
