"""Learns the pieces of a Unigram tokenizer from word counts.

Hard expectation-maximisation after Kudo, "Subword Regularization" (2018), section 3.2: each word is
cut into its most likely pieces, the pieces are counted again, and the rarest are dropped.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

MAX_LENGTH = 24
NUM_ROUNDS = 4
UNUSED_COUNT = 0.01


def seed_pieces(word_counts: Counter[str], num_pieces: int) -> Counter[str]:
    """Every character, and the substrings that cover most text, with their counts."""
    found: Counter[str] = Counter()
    for word, count in word_counts.items():
        for start in range(len(word)):
            for end in range(start + 2, min(len(word), start + MAX_LENGTH) + 1):
                found[word[start:end]] += count * (4 if end - start == len(word) else 1)
    best = sorted(found, key=lambda piece: (-found[piece] * len(piece), piece))[:num_pieces]
    pieces = Counter({piece: found[piece] for piece in best})
    for word, count in word_counts.items():
        for character in word:
            pieces[character] += count
    return pieces


def cut_word(word: str, scores: dict[str, float]) -> list[str]:
    """The most likely pieces of a word, whose characters all have a score."""
    best: list[tuple[float, int]] = [(0.0, 0)]
    for end in range(1, len(word) + 1):
        starts = range(max(0, end - MAX_LENGTH), end)
        best.append(
            max((best[start][0] + scores[word[start:end]], start) for start in starts if word[start:end] in scores)
        )
    pieces, end = [], len(word)
    while end:
        start = best[end][1]
        pieces.append(word[start:end])
        end = start
    return pieces[::-1]


def log_shares(counts: dict[str, float]) -> dict[str, float]:
    """The logarithm of each piece's share of all pieces."""
    total = math.log(sum(counts.values()))
    return {piece: math.log(count) - total for piece, count in counts.items()}


def learn_pieces(word_counts: Counter[str], alphabet: Iterable[str], num_pieces: int) -> list[tuple[str, float]]:
    """At most `num_pieces` pieces with their natural-log probabilities, the likeliest first.

    Every character of the alphabet and of the words is kept, so that any word can be cut.
    """
    seeds = seed_pieces(word_counts, 4 * num_pieces)
    kept = set(alphabet) | {piece for piece in seeds if len(piece) == 1}
    counts: dict[str, float] = {piece: float(seeds[piece]) for piece in seeds}
    counts |= {piece: UNUSED_COUNT for piece in kept if piece not in counts}
    for round_number in range(NUM_ROUNDS):
        scores = log_shares(counts)
        used: Counter[str] = Counter()
        for word, count in word_counts.items():
            for piece in cut_word(word, scores):
                used[piece] += count
        counts = {piece: float(used[piece]) or UNUSED_COUNT for piece in counts}
        shrink = (round_number + 1) / NUM_ROUNDS
        size = int(len(seeds) * (1 - shrink) + num_pieces * shrink)
        rank = sorted(counts, key=lambda p: (p not in kept, -used[p], -seeds[p] * len(p), p))
        counts = {piece: counts[piece] for piece in rank[:size]}
    scores = log_shares(counts)
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))
