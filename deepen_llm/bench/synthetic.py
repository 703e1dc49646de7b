"""Members of any size without a checkpoint: the tokens of real tokenizers, with made-up embeddings and distributions.

Embeddings have the structure that matters to relative fusion. Tokens that are one word (with or without a space, in
any case) share most of a vector, words that begin alike share some, the spectrum decays, and all share a mean.
Distributions are like those of a language model that is not sure: each member's best token has 0.6 to 0.98, the mass
beyond 256 tokens is 0.5% in the median, and members have the same best token in 6 steps of 10. All three are set for
each step and not left to a temperature: how peaked products of embeddings are depends on how many dimensions they have.
Steps in which every member is sure would say little about fusion, as its best token is then never in doubt.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from deepen_llm.errors import ConfigError
from deepen_llm.fusion.relative.member_space import MemberSpace

NUM_LATENT = 64
WORD, PREFIX, NOISE, MEAN = 0.8, 0.5, 0.9, 0.6
"""Shares of a word's vector, of its beginning's and of the token's own in an embedding, and the length of the mean."""
SPECTRUM = -0.35
"""The power law of the spectrum."""
AGREEMENT = 0.6
BEST_SHARES = (0.6, 0.98)
"""Between these lies the best token's probability."""
NUM_HEAD, TAIL_SHARE, TAIL_SPREAD = 256, 0.005, 1.0
"""The mass beyond so many tokens: its median, and the standard deviation of its logarithm."""
TEMPERATURES = (0.02, 50.0)
STEPS_AT_ONCE = 64
NUM_TARGETS = 8000
"""Best tokens are drawn from so many of the first common tokens."""

Tokens = Sequence[bytes | None]


def make_members(
    vocabularies: Sequence[Tokens], hidden: int, *, seed: int = 0, removed_directions: int | None = None
) -> list[MemberSpace]:
    """One member a vocabulary; the anchors are all tokens that they share.

    Args:
        vocabularies: Every member's tokens as bytes, None where an id has none.
        hidden: Dimensions of the embeddings.
        seed: Of the vectors of words and of everything else.
        removed_directions: What fusion is to remove from the embeddings.

    Raises:
        ConfigError: The vocabularies have no token in common.
    """
    ids = [{token: i for i, token in reversed(list(enumerate(tokens))) if token is not None} for tokens in vocabularies]
    common = sorted(
        (ids[0][token], *(other[token] for other in ids[1:])) for token in set(ids[0]).intersection(*ids[1:])
    )
    if not common:
        sizes = [len(tokens) for tokens in vocabularies]
        raise ConfigError(f"vocabularies must have tokens in common; these of {sizes} tokens share no token: keep more")
    words = _number([[(token or b"").strip().lower() for token in tokens] for tokens in vocabularies])
    prefixes = _number([[(token or b"").strip().lower()[:3] for token in tokens] for tokens in vocabularies])
    shared = torch.Generator().manual_seed(seed)
    word_vectors = torch.randn(1 + max(int(part.max()) for part in words), NUM_LATENT, generator=shared)
    prefix_vectors = torch.randn(1 + max(int(part.max()) for part in prefixes), NUM_LATENT, generator=shared)
    members = []
    for index, tokens in enumerate(vocabularies):
        generator = torch.Generator().manual_seed(seed + 1 + index)
        embeddings = NOISE * torch.randn(len(tokens), hidden, generator=generator)
        for share, vectors, numbers in ((WORD, word_vectors, words), (PREFIX, prefix_vectors, prefixes)):
            turn = torch.randn(NUM_LATENT, hidden, generator=generator) / NUM_LATENT**0.5
            embeddings += share * (vectors @ turn)[numbers[index]]
        embeddings *= (1 + torch.arange(hidden)) ** SPECTRUM
        embeddings /= torch.linalg.vector_norm(embeddings, dim=1, keepdim=True)
        mean = torch.randn(hidden, generator=generator)
        embeddings += MEAN * mean / torch.linalg.vector_norm(mean)
        allowed = torch.tensor([token is not None for token in tokens])
        anchor_ids = torch.tensor([row[index] for row in common])
        members.append(MemberSpace(embeddings, anchor_ids, allowed, (), removed_directions))
    return members


def make_logits(members: Sequence[MemberSpace], num_steps: int, *, seed: int = 0) -> list[Tensor]:
    """Next-token logits `(num_steps, num_logits)` of each member, float32."""
    generator = torch.Generator().manual_seed(seed)
    pool = min(NUM_TARGETS, len(members[0].anchor_ids))
    targets = torch.randint(0, pool, (num_steps, len(members) + 2), generator=generator)
    agrees = torch.rand(num_steps, generator=generator) < AGREEMENT
    return [
        _make_member_logits(member, torch.where(agrees, targets[:, 0], targets[:, index + 1]), targets, generator)
        for index, member in enumerate(members)
    ]


def _make_member_logits(member: MemberSpace, best: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
    """A hidden state between a best token, a second one and the one that others may mean, read by tied embeddings."""
    num_steps, (num_tokens, hidden) = len(best), member.embeddings.shape
    unit = member.embeddings - member.embeddings.mean(dim=0)
    unit /= torch.linalg.vector_norm(unit, dim=1, keepdim=True)
    second = torch.rand(num_steps, 1, generator=generator)
    state = unit[member.anchor_ids[best]] + second * unit[member.anchor_ids[targets[:, -1]]]
    state += 0.3 * unit[member.anchor_ids[targets[:, 0]]]
    state += 0.3 * torch.randn(num_steps, hidden, generator=generator) / hidden**0.5
    logits = state @ unit.T
    logits = 1.2 * (logits - logits.mean(dim=1, keepdim=True)) / logits.std(dim=1, keepdim=True)
    logits -= (torch.arange(num_tokens) + 100).log()
    low, high = BEST_SHARES
    best_shares = low + (high - low) * torch.rand(num_steps, 1, generator=generator)
    tail_shares = TAIL_SHARE * (TAIL_SPREAD * torch.randn(num_steps, 1, generator=generator)).exp()
    logits.masked_fill_(~member.allowed, -torch.inf)
    best_ids = member.anchor_ids[best][:, None]
    for rows in (slice(begin, begin + STEPS_AT_ONCE) for begin in range(0, num_steps, STEPS_AT_ONCE)):
        calibrate(logits[rows], best_ids[rows], best_shares[rows], tail_shares[rows])
    return logits


def calibrate(logits: Tensor, best: Tensor, best_shares: Tensor, tail_shares: Tensor) -> None:
    """Give every row the shares that are asked for; but for the best token, its tokens keep their order.

    A temperature, found by bisection, sets the share of the tokens beyond the `NUM_HEAD` best; the best one is then
    lifted or lowered to its own. A vocabulary no larger than `NUM_HEAD` has no such tokens and keeps its temperature.

    Args:
        logits: `(num_steps, num_tokens)`, float32, `-inf` for tokens that may not come; changed in place.
        best: The tokens that are to be the best, `(num_steps, 1)` int64.
        best_shares: Their probs `(num_steps, 1)`, more than 0.5.
        tail_shares: The probs of all tokens beyond the head together `(num_steps, 1)`.
    """
    others = logits.scatter(1, best, -torch.inf)
    if logits.shape[1] > NUM_HEAD:
        head = others.topk(NUM_HEAD - 1, dim=-1)
        tail = others.scatter(1, head.indices, -torch.inf)
        wanted = (tail_shares / (1 - best_shares)).clamp_max(0.5)
        low, high = (torch.full_like(best_shares, math.log(end)) for end in TEMPERATURES)
        for _ in range(20):
            middle = (low + high) / 2
            tail_total = (tail / middle.exp()).logsumexp(dim=-1, keepdim=True)
            head_total = (head.values / middle.exp()).logsumexp(dim=-1, keepdim=True)
            is_flat = torch.sigmoid(tail_total - head_total) > wanted
            low, high = torch.where(is_flat, low, middle), torch.where(is_flat, middle, high)
        temperature = ((low + high) / 2).exp()
        logits /= temperature
        others /= temperature
    logits.scatter_(1, best, others.logsumexp(dim=-1, keepdim=True) + torch.logit(best_shares))


def _number(keys: Sequence[Sequence[bytes]]) -> list[Tensor]:
    """The same number for the same key, over all members: `(num_tokens,)` int64 each."""
    numbers: dict[bytes, int] = {}
    return [torch.tensor([numbers.setdefault(key, len(numbers)) for key in part]) for part in keys]
