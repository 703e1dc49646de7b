"""A member without a model: it knows texts by heart, and can be told to fail."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from deepen_llm.errors import ClosedError
from deepen_llm.members.base import Branch, Fork, Member, Pending, Ready
from deepen_llm.vocabulary import Vocabulary

NUM_DIRECTIONS = 24
"""Width of the embeddings."""


class ScriptedMember(Member):
    """Goes on with the first of its texts that begins with the row's text, then says end-of-sequence.

    Every call is recorded: `passes` holds one {row: tokens} per forward pass, `peeks` the tokens of the branches,
    `measured` the tokens that were measured, `rows` the tokens of the open rows.
    `before_pass` is called with each {row: tokens} and may raise; `change` may alter the logits, `(num_logits,)`, of a
    row's text.

    With ensembles of these, whatever stands on an ensemble can be tested without a model:

        vocabulary = Vocabulary.from_tokenizer(tokenizer, name="main")
        ensemble = Ensemble([ScriptedMember(vocabulary, ["The cat sat on the mat."])])
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        texts: Sequence[str],
        *,
        context_length: int = 512,
        confidence: float = 8.0,
        seed: int = 0,
        tells_each: bool = False,
        can_fork: bool = False,
    ) -> None:
        """Learn the texts.

        Args:
            vocabulary: The member is called as it is.
            texts: What it says, prompts included; the first that fits counts.
            context_length: The most tokens of a row.
            confidence: The logit of the next token; all others have 0.
            seed: Of the embeddings of special tokens. Tokens with the same bytes have the same embedding in all
            members.
            tells_each: Whether it tells the logits after each of several tokens, so that the engine reads ahead.
            can_fork: Whether its rows may begin with the tokens of others, four bytes each.
        """
        self.name = vocabulary.name
        self.vocabulary = vocabulary
        self.context_length = context_length
        self.texts = [text.encode() for text in texts]
        self.confidence = confidence
        self.before_pass: Callable[[dict[int, list[int]]], None] = _do_nothing
        self.change: Callable[[bytes, Tensor], Tensor] = _leave_unchanged
        self.passes: list[dict[int, list[int]]] = []
        self.peeks: list[list[list[int]]] = []
        self.measured: list[list[int]] = []
        self.rows: dict[int, list[int]] = {}
        self.num_rolled_back = 0
        self.parked: dict[int, list[int]] = {}
        self.forks: list[tuple[int, int]] = []
        """Of every row that was copied, its handle, and how many of its tokens were left out."""
        self._tells_each, self._can_fork = tells_each, can_fork
        self.is_closed = False
        # Common tokens get common directions, so that the members' relative spaces agree.
        self._embeddings = torch.stack([_direction(token, seed) for token in vocabulary.tokens])

    @property
    def embeddings(self) -> Tensor:
        """Random directions, (num_logits, 24)."""
        return self._embeddings

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return torch.device("cpu")

    @property
    def weight_bytes(self) -> int:
        """Memory of the embeddings."""
        return self._embeddings.nbytes

    @property
    def tells_each(self) -> bool:
        """As it was made."""
        return self._tells_each

    @property
    def can_fork(self) -> bool:
        """As it was made."""
        return self._can_fork

    @property
    def cache_bytes_per_token(self) -> int | None:
        """None: there is no cache."""
        return None

    @property
    def identity(self) -> Mapping[str, object]:
        """The name."""
        return {"name": self.name}

    def open(self) -> int:
        """Begin an empty row."""
        self._check_open()
        return self._add([])

    def start_extend(
        self,
        tokens: Mapping[int, Sequence[int]],
        measured: Mapping[int, int] | None = None,
        *,
        temperature: float = 1.0,
    ) -> Pending:
        """Note the tokens; logits (len(tokens), num_logits)."""
        fed = self._feed(tokens)
        found = {row: self._measure(self.rows[row], num, temperature) for row, num in (measured or {}).items()}
        self.measured += [self.rows[row][-num:] for row, num in (measured or {}).items()]
        return Ready(torch.stack([self._logits(self.rows[row]) for row in fed]), found)

    def start_extend_each(self, tokens: Mapping[int, Sequence[int]], num_told: Mapping[int, int]) -> Pending:
        """Note the tokens; logits after the last ones of each row (sum of num_told, num_logits)."""
        if not self.tells_each:
            return super().start_extend_each(tokens, num_told)
        rows = {row: len(self.rows[row]) for row in self._feed(tokens)}
        ends = [(row, end + 1) for row, size in rows.items() for end in range(size - num_told[row], size)]
        return Ready(torch.stack([self._logits(self.rows[row][:end]) for row, end in ends]))

    def start_peek(self, branches: Sequence[Branch]) -> Pending:
        """What it would say after other tokens, (len(branches), num_logits); no row is changed."""
        self._check_open()
        texts = [self.rows[row][: len(self.rows[row]) - num_back] + list(ids) for row, num_back, ids in branches]
        assert all(ids for _, _, ids in branches), "every branch has tokens"
        self.peeks.append(texts)
        return Ready(torch.stack([self._logits(ids) for ids in texts]))

    def rollback(self, row: int, num_tokens: int) -> None:
        """Forget the last tokens of a row."""
        assert 0 < num_tokens <= len(self.rows[row]), "a row has the tokens that are taken back"
        del self.rows[row][-num_tokens:]
        self.num_rolled_back += num_tokens

    def fork(self, row: int, num_back: int) -> Fork | None:
        """A row with what another holds."""
        self._check_open()
        if not self._can_fork:
            return super().fork(row, num_back)
        ids = self.parked[row] if row in self.parked else self.rows[row]
        assert 0 <= num_back < len(ids), "of a row that is copied a token is left at least"
        self.forks.append((row, num_back))
        return Fork(self._add(ids[: len(ids) - num_back]), num_back)

    def park(self, row: int) -> int:
        """Nothing but forks of it come after."""
        if not self._can_fork:
            return super().park(row)
        self.parked[row] = self.rows.pop(row)
        return 4 * len(self.parked[row])

    def release(self, row: int) -> None:
        """Forget a row."""
        del (self.parked if row in self.parked else self.rows)[row]

    def close(self) -> None:
        """Note that the member is closed."""
        self.is_closed = True

    def text(self, ids: Sequence[int]) -> bytes:
        """A row's text, without the dummy space of a SentencePiece tokenizer."""
        joined = self.vocabulary.join(ids)
        return joined[1:] if self.vocabulary.adds_prefix_space else joined

    def _feed(self, tokens: Mapping[int, Sequence[int]]) -> dict[int, list[int]]:
        """A pass over rows, noted."""
        self._check_open()
        fed = {row: list(ids) for row, ids in tokens.items()}
        assert all(fed.values()), "every row of a pass has new tokens"
        self.before_pass(fed)
        self.passes.append(fed)
        for row, ids in fed.items():
            self.rows[row] += ids
        return fed

    def _add(self, ids: Sequence[int]) -> int:
        """A row that holds some tokens."""
        row = max((*self.rows, *self.parked), default=-1) + 1
        self.rows[row] = list(ids)
        return row

    def _measure(self, ids: Sequence[int], num: int, temperature: float) -> Tensor:
        """The natural-log probability of each of the last tokens, `(num,)`."""
        ends = range(len(ids) - num, len(ids))
        logprobs = [(self._logits(ids[:end]) / temperature).log_softmax(dim=-1) for end in ends]
        return torch.tensor([float(said[ids[end]]) for said, end in zip(logprobs, ends, strict=True)])

    def _logits(self, ids: Sequence[int]) -> Tensor:
        text = self.text(ids)
        logits = torch.zeros(len(self.vocabulary.tokens))
        rest = next((known[len(text) :] for known in self.texts if known.startswith(text)), b"")
        logits[self._next_token(rest, at_start=not text)] = self.confidence
        return self.change(text, logits)

    def _next_token(self, rest: bytes, at_start: bool) -> int:
        if not rest:
            return self.vocabulary.eos_ids[0]
        complete = rest.decode("utf-8", "ignore")
        if complete and complete.encode()[:1] == rest[:1]:
            return self.vocabulary.encode(complete, at_start=at_start)[0]
        byte_id = self.vocabulary.byte_ids[rest[0]]
        assert byte_id is not None, "the vocabulary has a token for every byte"
        return byte_id

    def _check_open(self) -> None:
        if self.is_closed:
            raise ClosedError(f"member {self.name!r} is closed: make another")


def _direction(token: bytes | None, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed if token is None else int.from_bytes(token[:6], "big") + len(token))
    return torch.randn(NUM_DIRECTIONS, generator=generator)


def _do_nothing(tokens: dict[int, list[int]]) -> None:
    del tokens


def _leave_unchanged(text: bytes, logits: Tensor) -> Tensor:
    del text
    return logits
