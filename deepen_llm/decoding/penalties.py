"""What one request changes in the fused distribution: a bias for single tokens, penalties for what was said.

Names and meanings are those of the field. `repetition_penalty` is that of CTRL (arXiv 1909.05858, section 4.1) with the
sign rule of transformers: a positive logit is divided by it, a negative one multiplied. It depends on where the zero of
the logits is. Fused log-probabilities have theirs at certainty, so that hardly anything would be taken off a token that
is nearly certain. They are put on the scale of the main model's logits first: an ensemble of one is then penalised
exactly as transformers does it, and values that are tuned elsewhere mean the same here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Self, final

import torch
from torch import Tensor

from deepen_llm.config import SamplingParams
from deepen_llm.decoding.ends import check_token
from deepen_llm.errors import ConfigError
from deepen_llm.vocabulary import Vocabulary


@final
class Penalties:
    """The bias and the penalties of one answer, which follow what it says."""

    def __init__(self, params: SamplingParams, bias: Tensor | None, seen: Tensor, vocabulary: Vocabulary) -> None:
        """Begin an answer.

        Args:
            params: With the penalties.
            bias: What is added to every logprob, `(num_logits,)`; None for nothing.
            seen: The tokens of the prompt, `(num_logits,)` bool; it is changed.
            vocabulary: The main model's.
        """
        self._repetition = params.repetition_penalty
        self._presence, self._frequency = params.presence_penalty, params.frequency_penalty
        self._bias, self._seen = bias, seen
        self._counts = torch.zeros(len(seen), device=seen.device)
        self._vocabulary = vocabulary

    @classmethod
    def build(
        cls,
        params: SamplingParams,
        vocabulary: Vocabulary,
        prompt_ids: Iterable[int],
        end_ids: Collection[int],
        device: torch.device,
    ) -> Self | None:
        """Those that the parameters ask for; None where they ask for none.

        Args:
            params: Of the request.
            vocabulary: The main model's.
            prompt_ids: The main model's tokens of the prompt.
            end_ids: The tokens that end the answer.
            device: Where the fused logprobs are.

        Raises:
            ConfigError: A bias for what is no token.
        """
        penalties = (params.repetition_penalty - 1, params.presence_penalty, params.frequency_penalty)
        if not (params.logit_bias or any(penalties)):
            return None
        resolved = resolve_bias(params.logit_bias or {}, vocabulary, end_ids)
        bias = torch.zeros(len(vocabulary))
        for token_id, value in resolved.items():
            bias[token_id] = value
        seen = torch.zeros(len(vocabulary), dtype=torch.bool)
        seen[list(vocabulary.with_same(prompt_ids))] = True
        return cls(params, bias.to(device) if resolved else None, seen.to(device), vocabulary)

    def push(self, token_id: int) -> None:
        """The answer has one more token."""
        ids = list(self._vocabulary.with_same((token_id,)))
        self._seen[ids] = True
        self._counts[ids] += 1

    def apply(self, logprobs: Tensor, main_logits: Tensor) -> Tensor:
        """The logprobs `(num_logits,)` with bias and penalties, not normalised; what is ruled out stays so.

        Args:
            logprobs: The fused ones.
            main_logits: What the main model said, `(num_logits,)` float32.
        """
        changed = logprobs if self._bias is None else logprobs + self._bias
        if self._repetition != 1:
            level = main_logits.masked_fill(logprobs == -torch.inf, -torch.inf).logsumexp(dim=-1)
            logits = changed + level
            penalised = torch.where(logits < 0, logits * self._repetition, logits / self._repetition) - level
            changed = torch.where(self._seen, penalised, changed)
        if self._frequency:
            changed = changed - self._frequency * self._counts
        if self._presence:
            changed = changed - self._presence * (self._counts > 0)
        return changed


def resolve_bias(bias: Mapping[int | str, float], vocabulary: Vocabulary, end_ids: Collection[int]) -> dict[int, float]:
    """The bias by token ids of the main model, for every token that says the same.

    Args:
        bias: By id or text, as in `SamplingParams.logit_bias`.
        vocabulary: The main model's.
        end_ids: The tokens that end the answer.

    Raises:
        ConfigError: A key that is no token of the main model or one that another key names too, or a token that never
            comes and is to come more often.
    """
    resolved: dict[int, float] = {}
    for key, value in bias.items():
        token_id = _find_token(key, vocabulary) if isinstance(key, str) else key
        check_token(token_id, vocabulary, "logit_bias")
        if value > 0 and not vocabulary.allowed[token_id] and token_id not in end_ids:
            raise ConfigError(
                f"logit_bias cannot bring {key!r}: it is a special token of {vocabulary.name!r} that never comes; got "
                f"{value:g}: leave it out, or name it in stop_token_ids if the answer is to end there"
            )
        if token_id in resolved:
            raise ConfigError(f"logit_bias has one bias for a token; got two for {key!r}, by id and by text: give one")
        resolved |= dict.fromkeys(vocabulary.with_same((token_id,)), value)
    return resolved


def _find_token(text: str, vocabulary: Vocabulary) -> int:
    """The token with exactly this text."""
    token_id = vocabulary.ids_by_token.get(text.encode())
    token_id = vocabulary.special_id(text) if token_id is None else token_id
    if token_id is None:
        parts = [vocabulary.display(part) for part in vocabulary.encode(text[:200], at_start=False)]
        raise ConfigError(
            f"logit_bias has texts that are one token of the main model {vocabulary.name!r}; got {text[:200]!r}, which "
            f"falls into {parts}: give the token that you mean, by its text or its id"
        )
    return token_id
