"""The equations of relative fusion (arXiv 2404.12715, section 3), as literal float64 loops. Slow and plain on purpose.

Lists of numbers in, lists of numbers out; a distribution is one list, a matrix a list of rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

Vector = Sequence[float]
Matrix = Sequence[Sequence[float]]


def dot(left: Vector, right: Vector) -> float:
    return math.fsum(a * b for a, b in zip(left, right, strict=True))


def norm(vector: Vector) -> float:
    return math.sqrt(dot(vector, vector))


def softmax(logits: Vector) -> list[float]:
    top = max(logits)
    powers = [math.exp(z - top) for z in logits]
    return [power / math.fsum(powers) for power in powers]


def cosine(left: Vector, right: Vector) -> float:
    length = norm(left) * norm(right)
    return dot(left, right) / length if length > 0 else 0.0


def relative_matrix(embeddings: Matrix, anchor_ids: Sequence[int], num_tokens: int) -> list[list[float]]:
    """softmax(100 * cosines / norm of the row of cosines), a row a token; uniform for a token without a direction."""
    rows = []
    for token in range(num_tokens):
        embedding = embeddings[token] if token < len(embeddings) else [0.0] * len(embeddings[0])
        cosines = [cosine(embedding, embeddings[anchor]) for anchor in anchor_ids]
        length = norm(cosines)
        rows.append(softmax([100 * c / length if length > 0 else 0.0 for c in cosines]))
    return rows


def mix(probs: Vector, relative: Matrix) -> list[float]:
    """p R."""
    return [math.fsum(p * row[a] for p, row in zip(probs, relative, strict=True)) for a in range(len(relative[0]))]


def kl(target: Vector, other: Vector) -> float:
    return math.fsum(r * math.log(r / q) for r, q in zip(target, other, strict=True) if r > 0)


def multiplicative_search(probs: Vector, relative: Matrix, target: Vector, num_steps: int) -> list[float]:
    """p <- p * (R @ (r / (p R)))."""
    for _ in range(num_steps):
        ratios = [r / q for r, q in zip(target, mix(probs, relative), strict=True)]
        probs = [p * dot(row, ratios) for p, row in zip(probs, relative, strict=True)]
    return list(probs)


def gradient_search(
    logits: Vector,
    relative: Matrix,
    target: Vector,
    num_steps: int,
    learning_rate: float,
    num_free: int | None = None,
) -> list[float]:
    """AdamW on the logits, the loss KL(target || softmax(logits) R) averaged over the anchors; gives probs.

    A logit of -inf takes no part; past the first `num_free` a logit feels the weight decay and not the gradient.
    """
    z = list(logits)
    num_tokens, num_anchors = len(relative), len(relative[0])
    num_free = num_tokens if num_free is None else num_free
    mean, square = [0.0] * num_tokens, [0.0] * num_tokens
    for step in range(1, num_steps + 1):
        floor = learning_rate / 4
        rate = floor + (learning_rate - floor) * (1 + math.cos(math.pi * (step - 1) / 10)) / 2
        p = softmax(z)
        q = mix(p, relative)
        by_q = [-target[a] / q[a] / num_anchors for a in range(num_anchors)]
        by_p = [dot(relative[w], by_q) for w in range(num_tokens)]
        by_z = [p[v] * (by_p[v] - dot(p, by_p)) for v in range(num_tokens)]
        for v in range(num_tokens):
            if z[v] == -math.inf:
                continue
            slope = by_z[v] if v < num_free else 0.0
            mean[v] = 0.9 * mean[v] + 0.1 * slope
            square[v] = 0.999 * square[v] + 0.001 * slope**2
            z[v] -= rate * 0.01 * z[v]
            z[v] -= rate * (mean[v] / (1 - 0.9**step)) / (math.sqrt(square[v] / (1 - 0.999**step)) + 1e-8)
    return softmax(z)


def read(logits: Vector, allowed: Sequence[bool], eos_ids: Sequence[int], align_eos: bool) -> list[float]:
    """A member's logits with what must not come at -inf, and its end-of-sequence folded into the first."""
    masked = [z if may else -math.inf for z, may in zip(logits, allowed, strict=True)]
    if align_eos and len(eos_ids) > 1:
        together = math.log(math.fsum(math.exp(masked[e]) for e in eos_ids))
        masked = [-math.inf if v in eos_ids else z for v, z in enumerate(masked)]
        masked[eos_ids[0]] = together
    return masked


def fuse(
    logits: Sequence[Vector], relatives: Sequence[Matrix], weights: Vector, main: int, search: dict
) -> list[float]:
    """One row's fused probs: r = sum of weight_i p_i R_i, and the search from the main model's logits."""
    target = [0.0] * len(relatives[0][0])
    for z, relative, weight in zip(logits, relatives, weights, strict=True):
        target = [r + weight * own for r, own in zip(target, mix(softmax(z), relative), strict=True)]
    if search["search"] == "multiplicative":
        return multiplicative_search(softmax(logits[main]), relatives[main], target, search["num_steps"])
    return gradient_search(logits[main], relatives[main], target, search["num_steps"], search["learning_rate"])


@dataclass
class Member:
    """What a search over candidates needs of one member."""

    relative: Matrix
    anchor_ids: Sequence[int]
    allowed: Sequence[bool]

    def own_anchor(self, token: int) -> int:
        """The anchor that the token is, or else the one with the largest entry."""
        if token in self.anchor_ids:
            return list(self.anchor_ids).index(token)
        row = list(self.relative[token])
        return row.index(max(row))

    def carry(self, probs: Vector) -> list[float]:
        """What the tokens put on their own anchors."""
        carried = [0.0] * len(self.anchor_ids)
        for token, prob in enumerate(probs):
            carried[self.own_anchor(token)] += prob * self.relative[token][self.own_anchor(token)]
        return carried

    def few(self, probs: Vector, tokens: Sequence[int]) -> tuple[list[float], Matrix]:
        """The probs and rows of some tokens, and behind them of the rest: its row is the mean row."""
        used = [row for row, may in zip(self.relative, self.allowed, strict=True) if may]
        mean = [math.fsum(row[a] for row in used) / len(used) for a in range(len(self.anchor_ids))]
        kept = [probs[token] for token in tokens]
        return [*kept, 1 - math.fsum(kept)], [*(self.relative[token] for token in tokens), mean]


def best(values: Vector, count: int) -> list[int]:
    return sorted(range(len(values)), key=lambda place: -values[place])[:count]


def fuse_candidates(
    logits: Sequence[Vector], members: Sequence[Member], weights: Vector, main: int, search: dict
) -> list[float]:
    """One row's fused probs by a search over candidates, as the docstring of `candidates.py` tells it."""
    probs = [softmax(z) for z in logits]
    count = search["num_candidates"]
    carried = [member.carry(p) for member, p in zip(members, probs, strict=True)]
    fused = [math.fsum(w * c[a] for w, c in zip(weights, carried, strict=True)) for a in range(len(carried[0]))]
    looked = []
    for token, prob in enumerate(probs[main]):
        own = members[main].own_anchor(token)
        looked.append(prob * (1 + members[main].relative[token][own] * (fused[own] / carried[main][own] - 1)))
    candidates = best(looked, count)
    target = [0.0] * len(fused)
    for index, (member, p, weight) in enumerate(zip(members, probs, weights, strict=True)):
        shares, rows = member.few(p, candidates if index == main else best(p, count))
        target = [r + weight * own for r, own in zip(target, mix(shares, rows), strict=True)]
    start, rows = members[main].few(probs[main], candidates)
    start[-1] = max(start[-1], 1e-10)
    if search["search"] == "multiplicative":
        found = multiplicative_search(start, rows, target, search["num_steps"])
        share = math.fsum(looked[token] for token in candidates) / math.fsum(found[:-1])
        result = list(looked)
    else:
        z = [math.log(p) if p > 0 else -math.inf for p in start]
        found = gradient_search(z, rows, target, search["num_steps"], search["learning_rate"], len(candidates))
        share = 1.0
        result = [p * found[-1] / start[-1] for p in probs[main]]
    for token, prob in zip(candidates, found, strict=False):
        result[token] = prob * share
    return [value / math.fsum(result) for value in result]


def trusting(alone: Vector, found: Vector, trust: float) -> list[float]:
    """softmax((1 - trust) log alone + trust log found)."""
    powers = [a ** (1 - trust) * f**trust if a > 0 else 0.0 for a, f in zip(alone, found, strict=True)]
    return [power / math.fsum(powers) for power in powers]


Path = tuple[int, ...]


def complete_sequences(
    tokens: Sequence[bytes | None], eos_ids: Sequence[int], model: Callable[[Path], Vector], path: Path = ()
) -> Iterator[tuple[bytes, float]]:
    """Every sequence of a member's tokens up to end-of-sequence: its bytes, and its probability."""
    for token_id, prob in enumerate(model(path)):
        if prob == 0:
            continue
        if token_id in eos_ids:
            yield b"".join(tokens[earlier] or b"" for earlier in path), prob
            continue
        for text, rest in complete_sequences(tokens, eos_ids, model, (*path, token_id)):
            yield text, prob * rest


def project_as_text(
    tokens: Sequence[bytes | None],
    eos_ids: Sequence[int],
    model: Callable[[Path], Vector],
    opened: bytes,
    first_token: Callable[[bytes], int],
    num_main: int,
) -> list[float]:
    """What a member's distribution reads as behind open bytes, from all the sequences that it could say.

    `first_token` gives the main model's first token of a text, and its end-of-sequence where there is none.
    """
    read = [0.0] * num_main
    for text, prob in complete_sequences(tokens, eos_ids, model):
        if text.startswith(opened):
            read[first_token(text[len(opened) :])] += prob
    return [mass / math.fsum(read) for mass in read]
