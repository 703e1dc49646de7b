"""Members whose tokens are compared by their texts: each a list of texts, "end" the end of sequence."""

from __future__ import annotations

import math
import random

import torch

from tests.fusion.fused import Fused
from tests.rounding import rounding

END = "end"
Member = list[str | None]


def make_members(sizes, seed=0):
    """Members with texts of one to three letters; the first token may not come, the last ends, one says a text twice.

    Every member has the single letters, so that each can spell what the others say.
    """
    rng = random.Random(seed)
    pool = ["".join(rng.choices("abcd", k=rng.choice([2, 3]))) for _ in range(40)]
    members = []
    for size in sizes:
        own = rng.sample(sorted(set(pool)), size - 7)
        members.append([None, *rng.sample(["a", "b", "c", "d", *own], len(own) + 4), own[0], END])
    return members


def ids_of(member):
    """Each text's id: the first of several."""
    return {text: member.index(text) for text in member if text is not None}


def canonical_ids(member):
    return [-1 if text is None else member.index(text) for text in member]


def first_id(member, text):
    """The token with the text, or the longest that begins it."""
    ids = ids_of(member)
    beginnings = [text] if text == END else [text[:length] for length in range(len(text), 0, -1)]
    return next((ids[beginning] for beginning in beginnings if beginning in ids), -1)


def make_logits(members, batch=3, seed=0, scale=3.0):
    generator = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(batch, len(member), generator=generator) for member in members]


def read(member, logits):
    """Each text's probability, those of the same text added up."""
    top = max(logits)
    powers = [0.0 if text is None else math.exp(z - top) for text, z in zip(member, logits, strict=True)]
    probs: dict[str, float] = {}
    for text, power in zip(member, powers, strict=True):
        if text is not None:
            probs[text] = probs.get(text, 0.0) + power / math.fsum(powers)
    return probs


def over_ids(member, probs):
    """A distribution over texts as one over the member's tokens."""
    ids = ids_of(member)
    row = [0.0] * len(member)
    for text, prob in probs.items():
        row[ids[text]] += prob
    return row


def in_frame(method, members, *, main=0, weights=None, trust=1.0, main_ends=False):
    """The method as the engine runs it."""
    ids, ends = [canonical_ids(member) for member in members], (members[main].index(END),)
    return Fused(method, ids, main=main, weights=weights, trust=trust, main_ends=main_ends, eos_ids=ends)


TOLERANCE = rounding(num_terms=40, num_steps=3)
"""Of toy vocabularies of at most 40 tokens: a softmax, a renormalization and a mean follow from one another."""


def close(left, right, atol=TOLERANCE):
    torch.testing.assert_close(left.exp(), right.exp(), atol=atol, rtol=0)
