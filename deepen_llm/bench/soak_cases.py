"""What is asked during a soak, and the answers that each question gets when it is asked alone."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

from deepen_llm.bench.decode import SENTENCES
from deepen_llm.config import SamplingParams
from deepen_llm.ensemble import Ensemble
from deepen_llm.results import Generation, Score

NUM_TOKENS = 16
NUM_SETTINGS = 3
"""So many of the ways to ask are taken for each question, in turn."""
TIMEOUT_S = 120.0
"""Who waits longer than this was forgotten."""
TIE = 0.02
"""Probabilities nearer to each other than this share may change places in a batch, where sums are of another order."""
SCORE_TOLERANCE = 1e-2
"""Of a log-probability, the same."""
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"who": {"type": "string", "maxLength": 12}, "age": {"type": "integer"}},
    "required": ["who", "age"],
    "additionalProperties": False,
}
SETTINGS: tuple[dict[str, Any], ...] = (
    {},
    {"stop": (".", "\n")},
    {"logprobs": 3, "trace": True},
    {"json_schema": SCHEMA, "max_new_tokens": 40},
    {"regex": "(yes|no|perhaps), [a-z]{2,8}"},
    {"ignore_eos": True, "max_new_tokens": 30},
)
"""How greedy answers are asked for."""


class WrongAnswerError(Exception):
    """An answer is not the one that comes when nothing else runs."""


@final
@dataclass(frozen=True)
class Case:
    """One question, and its greedy answer and score when it was asked alone."""

    prompt: str
    params: SamplingParams
    is_chat: bool
    alone: Generation
    score: Score | None

    @property
    def messages(self) -> list[dict[str, str]]:
        """The prompt as a chat."""
        return as_messages(self.prompt)

    def check(self, text: str, token_ids: Sequence[int]) -> bool:
        """Compare an answer with the one given alone. False where they parted at tokens that were equally good.

        Raises:
            WrongAnswerError: Another one, where the two did not part at tokens that were equally good.
        """
        if self.params.json_schema is not None:
            self._check_schema(text)
        if (text, tuple(token_ids)) == (self.alone.text, self.alone.token_ids):
            return True
        place = next((i for i, (a, b) in enumerate(zip(token_ids, self.alone.token_ids, strict=False)) if a != b), None)
        if place is None or not self._is_tie(place, token_ids[place]):
            raise WrongAnswerError(f"{self.prompt!r} gave {text!r}, and {self.alone.text!r} when asked alone")
        return False

    def check_score(self, score: Score) -> None:
        """Compare a score with the one given alone.

        Raises:
            WrongAnswerError: Another one.
        """
        if self.score is None or not math.isclose(score.logprob, self.score.logprob, abs_tol=SCORE_TOLERANCE):
            raise WrongAnswerError(f"{self.prompt!r} scored {score}, and {self.score} when asked alone")

    def _check_schema(self, text: str) -> None:
        """A structured answer is whole, whatever its tokens are."""
        try:
            keys = set(json.loads(text))
        except ValueError:
            keys = set()
        if keys != set(SCHEMA["required"]):
            raise WrongAnswerError(f"{self.prompt!r} gave {text!r}, which is not of its schema")

    def _is_tie(self, place: int, token_id: int) -> bool:
        """Whether alone, too, another token was nearly as good as the one chosen."""
        if self.alone.logprobs is None:
            return False
        chosen = self.alone.logprobs[place]
        best = math.exp(chosen.logprob)
        return any(best - other.prob <= TIE * best for other in chosen.top if other.token_id == token_id)


def ask_alone(ensemble: Ensemble, prompts: Sequence[str] = SENTENCES) -> list[Case]:
    """Every question with its answer, one after the other, on an ensemble that does nothing else.

    Raises:
        DeepenError: One of them cannot be answered.
    """
    cases = []
    for at, prompt in enumerate(prompts):
        for settings in (SETTINGS[(at + turn) % len(SETTINGS)] for turn in range(NUM_SETTINGS)):
            params = SamplingParams(**{"max_new_tokens": NUM_TOKENS, "timeout_s": TIMEOUT_S, **settings})
            is_chat = ensemble.has_chat_template and at % 2 == 1
            cases.append(_ask(ensemble, prompt, params, is_chat=is_chat))
    return cases


def as_messages(prompt: str) -> list[dict[str, str]]:
    """One question of a user."""
    return [{"role": "user", "content": prompt}]


def _ask(ensemble: Ensemble, prompt: str, params: SamplingParams, *, is_chat: bool) -> Case:
    """One question with its answer; what came next best is kept, to know ties."""
    known = params.replace(logprobs=max(params.logprobs or 0, 3))
    alone = ensemble.chat(as_messages(prompt), known) if is_chat else ensemble.generate(prompt, known)
    score = None
    if alone.text:
        score = ensemble.score_chat(as_messages(prompt), alone.text) if is_chat else ensemble.score(prompt, alone.text)
    return Case(prompt, params, is_chat, alone, score)
