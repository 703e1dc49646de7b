"""From fused log-probabilities to a token: small pure functions over the last dimension.

Words: `logprobs` are natural logarithms, -inf where a token may not come; they need not be normalised after a filter.
Filters apply in the order temperature, top-k, top-p, min-p, as in transformers.
"""

from __future__ import annotations

import secrets

import torch
from torch import Tensor

from deepen_llm.config import SamplingParams


def apply_temperature(logprobs: Tensor, temperature: float) -> Tensor:
    """Sharpen (below 1) or flatten (above 1) a distribution; `temperature` must be positive."""
    return logprobs / temperature


def apply_top_k(logprobs: Tensor, top_k: int) -> Tensor:
    """Keep the `top_k` best tokens, ties with the last of them included."""
    if top_k >= logprobs.shape[-1]:
        return logprobs
    threshold = logprobs.topk(top_k, dim=-1).values[..., -1:]
    return logprobs.masked_fill(logprobs < threshold, -torch.inf)


def apply_top_p(logprobs: Tensor, top_p: float) -> Tensor:
    """Keep the smallest set of best tokens whose probability reaches `top_p`; the best one always stays."""
    probs, order = logprobs.softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
    reached_before = probs.cumsum(dim=-1) - probs
    dropped = torch.zeros_like(probs, dtype=torch.bool).scatter(-1, order, reached_before >= top_p)
    return logprobs.masked_fill(dropped, -torch.inf)


def apply_min_p(logprobs: Tensor, min_p: float) -> Tensor:
    """Drop tokens less probable than `min_p` times the best one's probability."""
    threshold = logprobs.max(dim=-1, keepdim=True).values + torch.tensor(min_p, dtype=torch.float64).log().item()
    return logprobs.masked_fill(logprobs < threshold, -torch.inf)


def apply_filters(logprobs: Tensor, params: SamplingParams) -> Tensor:
    """Temperature and every filter that `params` asks for."""
    logprobs = apply_temperature(logprobs, params.temperature)
    if params.top_k:
        logprobs = apply_top_k(logprobs, params.top_k)
    if params.top_p < 1.0:
        logprobs = apply_top_p(logprobs, params.top_p)
    if params.min_p:
        logprobs = apply_min_p(logprobs, params.min_p)
    return logprobs


def make_generator(params: SamplingParams) -> torch.Generator:
    """The request's own generator, on the CPU whatever device the members are on."""
    return torch.Generator().manual_seed(secrets.randbits(63) if params.seed is None else params.seed)


def sample(logprobs: Tensor, generator: torch.Generator) -> int:
    """Draw one token id from one row (vocab,) by inverting the cumulative distribution.

    One uniform number a token, in float64 and in the order of ids: rounding in a batched forward pass does not shift
    which token a seed draws, unless the number falls on a boundary.
    """
    cumulative = logprobs.double().softmax(dim=-1).cumsum(dim=-1)
    uniform = torch.rand((), generator=generator, dtype=torch.float64).to(cumulative.device)
    drawn = torch.searchsorted(cumulative, uniform * cumulative[-1], right=True)
    return int(drawn.clamp(max=len(logprobs) - 1))
