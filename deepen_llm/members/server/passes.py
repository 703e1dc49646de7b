"""A step at a server: its requests under way, and the logits that come of the answers."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import NamedTuple, final

import torch
from torch import Tensor

from deepen_llm.errors import MemberError
from deepen_llm.members.base import Pending
from deepen_llm.members.server.client import Client
from deepen_llm.members.server.dialect import Dialect, Prompt, Question, Told
from deepen_llm.members.summary import Summary

BYTES_PER_TOKEN = 1000
"""The most that a server may write of one token."""
LEAST_ANSWER = 1_000_000
MOST_LOGPROB = 1e-3
"""More than nothing only by rounding."""


class Measured(NamedTuple):
    """Tokens of a row that are to be measured."""

    first: int
    """The place among the prompts of the text before the first of them; those before the others follow."""
    ids: Sequence[int]


class Wanted(NamedTuple):
    """What a pass is to find out."""

    prompts: Sequence[Prompt]
    """The rows of the pass, and after them what is asked to measure tokens."""
    num_rows: int
    measured: Mapping[int, Measured]
    """By row."""
    temperature: float
    """What logits are divided by where tokens are measured."""


@final
class ServerPass(Pending):
    """All requests of a step, at the same time."""

    def __init__(
        self,
        client: Client,
        dialect: Dialect,
        wanted: Wanted,
        num_told: int,
        num_logits: int,
    ) -> None:
        """Send them: of `num_logits` tokens, `num_told` are to be told of each prompt."""
        self._client, self._dialect, self._wanted = client, dialect, wanted
        self._num_told, self._num_logits = num_told, num_logits
        self._measured: dict[int, Tensor] = {}
        self._deadline = time.monotonic() + client.timeout_s
        self._asked: list[tuple[Question, Future[bytes]]] = []
        for question in dialect.ask(wanted.prompts):
            most = LEAST_ANSWER + BYTES_PER_TOKEN * num_told * question.num_prompts
            self._asked.append((question, client.start(question.path, question.body, most)))

    def result(self) -> Tensor:
        """Logprobs (rows, num_logits): what was told, and what is left spread over the other tokens.

        Raises:
            MemberError: The server failed, or told something other than what was asked.
            MemberTimeoutError: It took longer than it may.
        """
        told: list[Told] = []
        try:
            for question, future in self._asked:
                answers = self._dialect.read(self._wait(future))
                if len(answers) != question.num_prompts:
                    raise MemberError(
                        f"{self._client.where} must tell the next token of {question.num_prompts} texts; it told that "
                        f"of {len(answers)}: look at its log"
                    )
                told += [self._check(one) for one in answers]
        finally:
            for _, future in self._asked:
                future.cancel()  # of a step that failed, what has not begun
        ids = torch.tensor([one.ids for one in told], dtype=torch.int32)
        logprobs = torch.tensor([[_read(logprob) for logprob in one.logprobs] for one in told], dtype=torch.float32)
        logits = Summary(ids, logprobs).spread(self._num_logits)
        for row, (first, said) in self._wanted.measured.items():
            before = (logits[first : first + len(said)] / self._wanted.temperature).log_softmax(dim=-1)
            self._measured[row] = before.gather(1, torch.tensor(said)[:, None])[:, 0]
        return logits[: self._wanted.num_rows]

    @property
    def measured(self) -> Mapping[int, Tensor]:
        """See `Pending.measured`; of tokens that are not told, what their part of the rest is."""
        return self._measured

    def _wait(self, future: Future[bytes]) -> bytes:
        try:
            return future.result(max(self._deadline - time.monotonic(), 0.0))
        except MemberError:
            raise
        except TimeoutError:
            raise self._client.timeout_error() from None

    def _check(self, told: Told) -> Told:
        """What was told, as many tokens as were asked for."""
        due = self._num_told
        if len(told.ids) < due:
            raise MemberError(
                f"{self._client.where} must tell the {due} best tokens; it told {len(told.ids)}: "
                f"{self._dialect.more_hint}"
            )
        ids, logprobs = told.ids[:due], told.logprobs[:due]
        if min(ids) < 0 or max(ids) >= self._num_logits or len(set(ids)) != due:
            raise MemberError(
                f"{self._client.where} must tell tokens by ids below {self._num_logits}, each once; it told ids "
                f"from {min(ids)} to {max(ids)}, {len(set(ids))} of {due} different: give the tokenizer of the "
                "server's model with tokenizer="
            )
        if any(logprob is not None and logprob > MOST_LOGPROB for logprob in logprobs):
            raise MemberError(
                f"{self._client.where} must tell natural-log probabilities, which are never above 0; it told one of "
                f"{max(logprob for logprob in logprobs if logprob is not None):g}: have it tell those of the raw logits"
            )
        return Told(ids, logprobs)


def _read(logprob: float | None) -> float:
    """A log-probability; what is no number at the server comes as null."""
    return math.nan if logprob is None else logprob
