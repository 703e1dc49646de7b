"""The requests of a soak: every way to ask, to go away, to be late and to be wrong, from threads and event loops."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Any, final

from deepen_llm.bench.soak_cases import NUM_TOKENS, TIMEOUT_S, Case, WrongAnswerError
from deepen_llm.config import SamplingParams
from deepen_llm.ensemble import Ensemble
from deepen_llm.errors import DeepenError, MemberTimeoutError

Way = Callable[[], str]
AsyncWay = Callable[[], Awaitable[str]]
LATE_S = 0.005
LONG = 10_000
"""Tokens that no request waits for: it is abandoned before."""


@final
class Load:
    """One user who asks at random, in one thread or event loop. Every method asks once and says how that ended.

    Errors of the requests come out as they are, but those that had to come; `WrongAnswerError` says that an answer was
    not the right one.
    """

    def __init__(self, ensemble: Ensemble, cases: Sequence[Case], seed: int) -> None:
        """A user with a seed of his own."""
        self._ensemble, self._cases = ensemble, cases
        self._random = Random(seed)  # noqa: S311 - nothing secret
        self.num_compared = self.num_ties = 0
        """Answers that were compared with those given alone, and those of them that parted at equally good tokens."""

    @property
    def ways(self) -> dict[str, Way]:
        """Every way to ask from a thread."""
        return {
            "answered": self.ask,
            "streamed": self.stream,
            "batched": self.ask_many,
            "sampled": self.sample,
            "scored": self.score,
            "closed": self.close_early,
            "dropped": self.drop,
            "late": self.be_late,
            "refused": self.be_wrong,
            "paused": self.pause,
        }

    @property
    def async_ways(self) -> dict[str, AsyncWay]:
        """Every way to ask from an event loop."""
        return {
            "answered by await": self.aask,
            "streamed by await": self.astream,
            "closed by await": self.aclose_early,
            "cancelled": self.cancel,
            "late by await": self.abe_late,
        }

    def choose(self, names: Sequence[str]) -> str:
        """One of the ways."""
        return self._random.choice(list(names))

    def ask(self) -> str:
        """`generate` or `chat`, and compare."""
        case = self._case()
        if case.is_chat:
            answer = self._ensemble.chat(case.messages, case.params)
        else:
            answer = self._ensemble.generate(case.prompt, case.params)
        self._compare(case, answer.text, answer.token_ids)
        return "answered"

    def stream(self) -> str:
        """`stream` or `stream_chat` to the end, and compare."""
        case = self._case()
        chunks = list(self._start(case, case.params))
        self._compare(case, "".join(chunk.text for chunk in chunks), [i for chunk in chunks for i in chunk.token_ids])
        return "streamed"

    def ask_many(self) -> str:
        """`generate` of several prompts at once, and compare."""
        params = self._case().params
        cases = [case for case in self._cases if case.params == params and not case.is_chat]
        cases = self._random.sample(cases, min(3, len(cases)))
        for case, answer in zip(cases, self._ensemble.generate([case.prompt for case in cases], params), strict=True):
            self._compare(case, answer.text, answer.token_ids)
        return "batched"

    def sample(self) -> str:
        """An answer at random: it has the tokens that were asked for at most."""
        how = {"temperature": 1.0, "top_p": 0.9, "top_k": 50, "seed": self._random.randrange(2**32)}
        answer = self._ensemble.generate(self._case().prompt, self._short(**how))
        if len(answer.token_ids) > NUM_TOKENS:
            raise WrongAnswerError(f"{len(answer.token_ids)} tokens, and not {NUM_TOKENS} at most")
        return "sampled"

    def score(self) -> str:
        """`score` or `score_chat`, and compare."""
        case = self._random.choice([case for case in self._cases if case.score is not None])
        if case.is_chat:
            case.check_score(self._ensemble.score_chat(case.messages, case.alone.text))
        else:
            case.check_score(self._ensemble.score(case.prompt, case.alone.text))
        return "scored"

    def close_early(self) -> str:
        """Read some of a long stream and close it."""
        with self._start(self._case(), self._endless()) as stream:
            for _, _ in zip(range(self._random.randrange(4)), stream, strict=False):
                pass
        return "closed"

    def drop(self) -> str:
        """Read some of a long stream and let go of it."""
        stream = self._start(self._case(), self._endless())
        for _, _ in zip(range(self._random.randrange(4)), stream, strict=False):
            pass
        del stream
        return "dropped"

    def be_late(self) -> str:
        """A request with next to no time."""
        try:
            self._ensemble.generate(self._case().prompt, self._endless(timeout_s=self._random.random() * LATE_S))
        except MemberTimeoutError as error:
            return _check_late(error)
        raise WrongAnswerError("an answer without end came in time")

    def be_wrong(self) -> str:
        """Something that cannot be asked."""
        name = self._random.choice(sorted(WRONG))
        try:
            WRONG[name](self._ensemble)
        except DeepenError:
            return "refused"
        raise WrongAnswerError(f"{name} was not refused")

    def pause(self) -> str:
        """Ask nothing for a while."""
        time.sleep(self._random.random() * 0.2)
        return "paused"

    async def aask(self) -> str:
        """`agenerate` or `achat`, and compare."""
        case = self._case()
        if case.is_chat:
            answer = await self._ensemble.achat(case.messages, case.params)
        else:
            answer = await self._ensemble.agenerate(case.prompt, case.params)
        self._compare(case, answer.text, answer.token_ids)
        return "answered by await"

    async def astream(self) -> str:
        """`astream` or `astream_chat` to the end, and compare."""
        case = self._case()
        chunks = [chunk async for chunk in self._astart(case, case.params)]
        self._compare(case, "".join(chunk.text for chunk in chunks), [i for chunk in chunks for i in chunk.token_ids])
        return "streamed by await"

    async def aclose_early(self) -> str:
        """Read some of a long stream and close it, or let go of it."""
        stream = self._astart(self._case(), self._endless())
        left = self._random.randrange(4)
        async for _ in stream:
            left -= 1
            if left <= 0:
                break
        if self._random.random() < 0.5:
            await stream.aclose()
        return "closed by await"

    async def cancel(self) -> str:
        """Cancel a task that waits for a long answer."""
        task = asyncio.ensure_future(self._ensemble.agenerate(self._case().prompt, self._endless()))
        await asyncio.sleep(self._random.random() * 0.05)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return "cancelled"
        raise WrongAnswerError("a task that was cancelled came to an end")

    async def abe_late(self) -> str:
        """A request with next to no time."""
        late = self._endless(timeout_s=self._random.random() * LATE_S)
        try:
            await self._ensemble.agenerate(self._case().prompt, late)
        except MemberTimeoutError as error:
            return _check_late(error) + " by await"
        raise WrongAnswerError("an answer without end came in time")

    def _compare(self, case: Case, text: str, token_ids: Sequence[int]) -> None:
        """See `Case.check`."""
        self.num_compared += 1
        self.num_ties += not case.check(text, token_ids)

    def _case(self) -> Case:
        return self._random.choice(self._cases)

    def _start(self, case: Case, params: SamplingParams) -> Any:
        if case.is_chat:
            return self._ensemble.stream_chat(case.messages, params)
        return self._ensemble.stream(case.prompt, params)

    def _astart(self, case: Case, params: SamplingParams) -> Any:
        if case.is_chat:
            return self._ensemble.astream_chat(case.messages, params)
        return self._ensemble.astream(case.prompt, params)

    def _short(self, **how: Any) -> SamplingParams:
        return SamplingParams(**{"max_new_tokens": NUM_TOKENS, "timeout_s": TIMEOUT_S, **how})

    def _endless(self, **how: Any) -> SamplingParams:
        return SamplingParams(**{"max_new_tokens": LONG, "ignore_eos": True, "timeout_s": TIMEOUT_S, **how})


def _check_late(error: MemberTimeoutError) -> str:
    """The end of a request that had no time: the error speaks of that, and not of a member that was made to fail."""
    if "its timeout of" not in str(error):
        raise error
    return "late"


WRONG: dict[str, Callable[[Ensemble], object]] = {
    "no prompt": lambda ensemble: ensemble.generate(""),
    "a prompt that is none": lambda ensemble: ensemble.generate(None),  # type: ignore[call-overload]
    "a lone surrogate": lambda ensemble: ensemble.generate("\ud800"),
    "a prompt without end": lambda ensemble: ensemble.generate("word " * 20_000),
    "a setting that does not exist": lambda _: SamplingParams(max_tokens=3),  # type: ignore[call-arg]
    "a value out of bounds": lambda _: SamplingParams(top_p=2.0),
    "settings that are none": lambda ensemble: ensemble.generate("a", {"top_p": 1}),  # type: ignore[call-overload]
    "no message": lambda ensemble: ensemble.chat([]),
    "a message without content": lambda ensemble: ensemble.chat([{"role": "user"}]),
    "nothing to score": lambda ensemble: ensemble.score("a", ""),
    "a regular expression that is none": lambda ensemble: ensemble.generate("a", SamplingParams(regex="(")),
    "a schema that is none": lambda ensemble: ensemble.generate("a", SamplingParams(json_schema={"type": "no"})),
}
"""What must be refused, by what it is."""
