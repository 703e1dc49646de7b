"""Members of a few tokens, and models of theirs that end after a few."""

from __future__ import annotations

import random
from collections.abc import Callable

import torch

from deepen_llm.projection.results import Path, Projection, Queries
from deepen_llm.vocabulary import Vocabulary
from deepen_llm.vocabulary.prefixes import TokenPrefixes

END = "end"
Model = Callable[[Path], list[float]]


class FewTokens:
    """As much of a vocabulary as a projector asks for. `END` is end-of-sequence, None a token that must never come."""

    def __init__(self, *pieces: str | bytes | None) -> None:
        self.pieces = pieces
        self.tokens = tuple(
            None if piece in (END, None) else piece.encode() if isinstance(piece, str) else piece for piece in pieces
        )
        self.eos_ids = tuple(token_id for token_id, piece in enumerate(pieces) if piece == END)

        self.prefixes = TokenPrefixes(self.tokens)
        self.allowed = torch.tensor([bool(token) for token in self.tokens])
        self.allowed[list(self.eos_ids)] = True

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, text: str, *, at_start: bool = True) -> list[int]:
        """The longest token that fits, again and again; what has none is left out."""
        assert not at_start
        ids, rest = [], text.encode()
        while rest:
            fits = [token_id for token_id, token in enumerate(self.tokens) if token and rest.startswith(token)]
            if fits:
                ids.append(max(fits, key=lambda token_id: len(self.tokens[token_id])))
            rest = rest[len(self.tokens[ids[-1]]) if fits else 1 :]
        return ids


def random_model(member: FewTokens, max_tokens: int, seed: int = 0) -> Model:
    """Probabilities drawn for every path; after `max_tokens` tokens, and now and then before, it ends."""
    may_come = [bool(token) or token_id in member.eos_ids for token_id, token in enumerate(member.tokens)]

    def model(path: Path) -> list[float]:
        if len(path) == max_tokens:
            return [1.0 if token_id == member.eos_ids[0] else 0.0 for token_id in range(len(member))]
        rng = random.Random(f"{seed}{path}")
        shares = [rng.random() ** 3 if may else 0.0 for may in may_come]
        return [share / sum(shares) for share in shares]

    return model


def table_model(member: FewTokens, said: dict[tuple[str, ...], dict[str, float]]) -> Model:
    """Probabilities written out by hand, for paths of pieces; a path that is not there ends."""

    def model(path: Path) -> list[float]:
        probs = said.get(tuple(member.pieces[token_id] for token_id in path), {END: 1.0})
        return [probs.get(piece, 0.0) for piece in member.pieces]

    return model


class Answers:
    """Answers what an expansion asks for from a model, and records it."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.asked: list[list[Path]] = []

    def probs(self, path: Path = ()) -> torch.Tensor:
        return torch.tensor(self.model(path), dtype=torch.float64)

    def drive(self, queries: Queries) -> Projection:
        try:
            wanted = next(queries)
            while True:
                self.asked.append(wanted)
                wanted = queries.send({path: self.probs(path) for path in wanted})
        except StopIteration as stop:
            return stop.value


def first_token(main: Vocabulary, text: bytes) -> int:
    """The main tokenizer's first token, told from its own words: whole characters, else the longest token of bytes."""
    if not text:
        return main.eos_ids[0]
    for end in range(len(text), 0, -1):
        try:
            return main.encode(text[:end].decode(), at_start=False)[0]
        except UnicodeDecodeError:
            continue
    return max((i for i, t in enumerate(main.tokens) if t and text.startswith(t)), key=lambda i: len(main.tokens[i]))
