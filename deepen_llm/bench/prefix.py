"""What it saves that a beginning is read once: the next turn of a chat, and questions behind the same examples."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from typing import final

from deepen_llm.bench.decode import SENTENCES, Finding
from deepen_llm.bench.forgetful import make_forgetful
from deepen_llm.bench.timing import Spread, Times, ratios, take_turns
from deepen_llm.config import SamplingParams
from deepen_llm.ensemble import Ensemble
from deepen_llm.evaluation.items import BETWEEN_EXAMPLES
from deepen_llm.evaluation.task_file import TASKS_FOLDER, TaskFile
from deepen_llm.requests.streams import Stream
from deepen_llm.results import Generation
from deepen_llm.vocabulary.chat import Message

TASK = "gsm8k"
"""Whose examples are shown."""
MOST_BYTES = 1 << 30
FIRST, SECOND, KEPT, PLAIN = "first turn", "second turn", "read once", "read anew"
NUM_REPLY = 16
"""Tokens of each turn of the chat."""
ROOM = 200
"""Tokens that a chat has room for beside its context."""


@final
class PrefixBenchmark:
    """Runs the measurements on the members of an ensemble, with and without what is kept; all decoding is greedy."""

    def __init__(
        self,
        ensemble: Ensemble,
        *,
        num_context: int = 1000,
        num_questions: int = 16,
        num_tokens: int = 64,
        num_repetitions: int = 3,
    ) -> None:
        """Take the members.

        Args:
            ensemble: Whose; it answers nothing meanwhile.
            num_context: Tokens before the question of a chat's first turn, fewer where they do not fit.
            num_questions: Asked at the same time, behind the same examples.
            num_tokens: Of each of their answers.
            num_repetitions: Runs of each case.
        """
        smallest = min(member.context_length for member in ensemble.members)
        self.num_context = min(num_context, smallest - ROOM)
        self._num_questions, self._num_tokens, self._num_repetitions = num_questions, num_tokens, num_repetitions
        self._task = TaskFile.load(TASKS_FOLDER / f"{TASK}.yaml")
        self._numbers = count(1)
        self._messages: list[Message] = []
        self._ensembles = {
            name: make_forgetful(
                ensemble, prefix_cache_bytes=num_bytes, drafts_from_answers=ensemble.config.drafts_from_answers
            )
            for name, num_bytes in ((KEPT, MOST_BYTES), (PLAIN, 0))
        }

    def run(self) -> Iterator[Finding]:
        """Every finding, as soon as it is there."""
        yield self.measure_second_turn()
        yield self.measure_questions()
        yield self.count_equal_answers()

    def close(self) -> None:
        """Free what is kept; the members stay."""
        for ensemble in self._ensembles.values():
            ensemble.close()

    def measure_second_turn(self) -> Finding:
        """Time to the first token of a chat's second turn, over that of its first; every chat is another one."""
        times = take_turns({FIRST: self._time_first_turn, SECOND: self._time_second_turn}, self._num_repetitions)
        name = f"time to first token of the second turn / of the first, {self.num_context} tokens of context"
        return Finding(name, ratios(times, (SECOND,), (FIRST,)), 0.15, "at most", _milliseconds(times))

    def measure_questions(self) -> Finding:
        """How many times as fast questions are answered whose examples were read before."""
        cases: dict[str, Callable[[], float]] = {name: partial(self._time_questions, name) for name in (PLAIN, KEPT)}
        times = take_turns(cases, self._num_repetitions)
        num_shown = self._ensembles[KEPT].count_tokens(self._make_question(0)) - self._num_asked
        what = f"{self._num_questions} questions behind {num_shown} tokens of {TASK}'s examples"
        name = f"times as fast: {what}, answers of {self._num_tokens}"
        return Finding(name, ratios(times, (PLAIN,), (KEPT,)), 3.0, "at least", _milliseconds(times))

    def count_equal_answers(self) -> Finding:
        """How many answers are the same with and without what is kept."""
        prompts = [self._make_question(number) for number in range(self._num_questions)]
        kept, plain = (self._answer(name, prompts) for name in (KEPT, PLAIN))
        num_equal = sum(a.token_ids == b.token_ids for a, b in zip(kept, plain, strict=True))
        num = float(self._num_questions)
        return Finding(f"of {num:g} answers are the same", Spread((float(num_equal),)), num, "at least")

    def _time_first_turn(self) -> float:
        """Seconds until a chat begins to answer, of which nothing was read before."""
        opening = f"This is story number {next(self._numbers)}. "
        text = opening
        ensemble = self._ensembles[KEPT]
        while ensemble.count_tokens(text) < self.num_context:
            text += SENTENCES[len(text) % len(SENTENCES)] + " "
        self._messages = [{"role": "user", "content": text + "What is the story about?"}]
        return self._time_turn("Tell me more of it.")

    def _time_second_turn(self) -> float:
        """The same when it goes on."""
        return self._time_turn("And how does it end?")

    def _time_turn(self, following: str) -> float:
        """Seconds to the first token of the reply; the chat then goes on with this question."""
        begin_s = time.perf_counter()
        with self._start_turn() as stream:
            pieces = [next(stream).text]
            seconds = time.perf_counter() - begin_s
            pieces += [chunk.text for chunk in stream]
        reply = "".join(pieces).strip() or "I do not know."
        self._messages += [{"role": "assistant", "content": reply}, {"role": "user", "content": following}]
        return seconds

    def _start_turn(self) -> Stream:
        """The reply to come; where a member has no chat template, to the messages as a text."""
        ensemble, params = self._ensembles[KEPT], SamplingParams(max_new_tokens=NUM_REPLY)
        if ensemble.has_chat_template:
            return ensemble.stream_chat(self._messages, params)
        said = [f"{message['role']}: {message['content']}\n" for message in self._messages]
        return ensemble.stream("".join([*said, "assistant:"]), params)

    def _time_questions(self, name: str) -> float:
        """Seconds for each of some questions that come at the same time, and that nobody has asked before."""
        prompts = [self._make_question(next(self._numbers)) for _ in range(self._num_questions)]
        begin_s = time.perf_counter()
        self._answer(name, prompts)
        return (time.perf_counter() - begin_s) / self._num_questions

    def _answer(self, name: str, prompts: list[str]) -> list[Generation]:
        params = SamplingParams(max_new_tokens=self._num_tokens, ignore_eos=True)
        return self._ensembles[name].generate(prompts, params)

    def _make_question(self, number: int) -> str:
        """A question as the task asks it, behind its examples."""
        examples = [self._task.write_example(example) for example in self._task.examples]
        return BETWEEN_EXAMPLES.join([*examples, self._task.write_question({"question": _ask(number)})])

    @property
    def _num_asked(self) -> int:
        """Tokens of a question."""
        return self._ensembles[KEPT].count_tokens(self._task.write_question({"question": _ask(0)}))


def _ask(number: int) -> str:
    """A problem in words, a different one for each number."""
    return (
        f"A baker fills {number + 7} trays with {number % 9 + 4} rolls each. He sells {number + 12} rolls in the "
        f"morning and half of what is left in the afternoon. How many rolls does he have in the evening?"
    )


def _milliseconds(times: Times) -> dict[str, float]:
    return {name: 1000 * Spread(tuple(runs)).median for name, runs in times.items()}
