"""Where one answer may end, where it may not yet, and what it may not say at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from deepen_llm.config import SamplingParams
from deepen_llm.errors import ConfigError
from deepen_llm.members.generation_defaults import GenerationDefaults
from deepen_llm.vocabulary import Vocabulary


@final
class Ends:
    """The tokens of the main model that end one answer: end-of-sequence, stop tokens, stop strings that are one.

    A special token that is no end-of-sequence never comes by itself: no text has it, and no other member knows it.
    Where the answer stops at one, it comes with the probability that the main model gives it, by the main model's
    weight.
    """

    def __init__(
        self, params: SamplingParams, vocabulary: Vocabulary, defaults: GenerationDefaults | None = None
    ) -> None:
        """Find them in the main model's vocabulary, and what its own settings say that it must not say.

        Raises:
            ConfigError: A stop token that it does not have.
        """
        for token_id in params.stop_token_ids:
            check_token(token_id, vocabulary, "stop_token_ids")
        written = (vocabulary.special_id(text) for text in params.stop)
        stops = {*params.stop_token_ids, *(token_id for token_id in written if token_id is not None)}
        stops = vocabulary.with_same(stops)
        ends = stops.union(vocabulary.eos_ids)
        defaults = defaults or GenerationDefaults()
        never = vocabulary.with_same(defaults.suppressed_ids).union(vocabulary.eos_ids if params.ignore_eos else ())
        never -= stops
        self.ids = frozenset(ends)
        self._never, self._early = tuple(sorted(never)), tuple(sorted(never | ends))
        self._first = tuple(sorted(vocabulary.with_same(defaults.first_suppressed_ids)))
        self._min_new_tokens = params.min_new_tokens
        self._allowed = vocabulary.allowed
        self._admitted = sorted(token_id for token_id in stops if not vocabulary.allowed[token_id])

    @property
    def has_special(self) -> bool:
        """Whether the answer stops at tokens that would not come by themselves."""
        return bool(self._admitted)

    def is_too_early(self, num_tokens: int) -> bool:
        """Whether an answer of so many tokens must go on."""
        return num_tokens < self._min_new_tokens

    def ruled_out(self, num_tokens: int) -> tuple[int, ...]:
        """The tokens that may not come after so many."""
        ruled_out = self._early if self.is_too_early(num_tokens) else self._never
        return ruled_out if num_tokens or not self._first else (*ruled_out, *self._first)

    def admit(self, logprobs: Tensor, main_logits: Tensor, weight: float) -> Tensor:
        """The fused logprobs `(num_logits,)` with the special stop tokens in them.

        Args:
            logprobs: Without them.
            main_logits: What the main model said, `(num_logits,)` float32.
            weight: How much the main model counts, from 0 to 1.
        """
        ids = torch.tensor(self._admitted, device=logprobs.device)
        may_come = self._allowed.to(logprobs.device).index_fill(0, ids, value=True)
        probs = weight * main_logits.masked_fill(~may_come, -torch.inf).softmax(dim=-1)[ids]
        return (logprobs + torch.log1p(-probs.sum().clamp(max=1.0))).index_copy(0, ids, probs.log())


def check_token(token_id: int, vocabulary: Vocabulary, setting: str) -> None:
    """Refuse an id that is no token of the main model.

    Raises:
        ConfigError: It names the setting and the id.
    """
    if token_id >= len(vocabulary) or token_id in vocabulary.padded_ids:
        raise ConfigError(
            f"{setting} has token ids of the main model {vocabulary.name!r}, which has {len(vocabulary)} ids, "
            f"{len(vocabulary.padded_ids)} of them padding; got {token_id}"
        )


def check_drawn(ends: Ends, forbidden_ids: Sequence[int], vocabulary: Vocabulary) -> None:
    """Refuse what an answer whose words are drawn member by member cannot do: tokens that may not come, or only by one.

    Raises:
        ConfigError: The answer stops at a special token of the main model, or its own settings rule tokens out.
    """
    if ends.has_special:
        raise ConfigError(
            "fuse='drawn' lets any member write, and only the main model knows its special tokens: stop at a text, or "
            "write FusionConfig(fuse='always')"
        )
    if forbidden_ids:
        shown = ", ".join(repr(vocabulary.display(token_id)) for token_id in forbidden_ids[:3])
        raise ConfigError(
            f"fuse='drawn' cannot rule tokens out, and the main model {vocabulary.name!r} does so by its own settings "
            f"({shown}): write FusionConfig(fuse='always')"
        )
