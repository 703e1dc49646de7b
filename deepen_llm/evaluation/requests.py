"""What can be asked of an ensemble in an evaluation, each as JSON values, and what comes back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, final

from deepen_llm.config import SamplingParams
from deepen_llm.errors import CacheError, VocabularyError
from deepen_llm.evaluation.context_window import fit_prompt

if TYPE_CHECKING:
    from deepen_llm.ensemble import Ensemble
    from deepen_llm.results import FusionReport


@dataclass(frozen=True)
class Answer:
    """What an ensemble said to one request. `num_tokens` are those generated or scored, the main model's."""

    num_tokens: int
    text: str = ""
    logprob: float = 0.0
    """Natural log, of a scored continuation."""
    is_greedy: bool = False
    num_steps: int = 0
    num_fused: int = 0
    """Of the steps, those in which the other members had a say."""
    num_extra_rows: int = 0
    """Rows in which members' tokens were extended to be read as text, and forward passes that they were part of."""
    num_extra_passes: int = 0
    is_shortened: bool = False
    """Whether the beginning of the prompt was left out because the whole did not fit."""
    seconds: float = 0.0
    """This request's share of the time that passed while requests ran side by side."""


class Request(ABC):
    """One thing to ask."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Everything that changes the answer, as JSON values."""

    @abstractmethod
    def ask(self, ensemble: Ensemble) -> Answer:
        """Ask and wait for the answer. Many threads may ask at once: the requests join one batch.

        Raises:
            DeepenError: The request cannot be run, or a member failed.
        """


@final
@dataclass(frozen=True)
class GenerateRequest(Request):
    """Go on from a prompt. A prompt that is too long loses its beginning (see `fit_prompt`)."""

    prompt: str
    params: SamplingParams

    def describe(self) -> dict[str, Any]:
        """The prompt and how to decode."""
        return {"generate": self.prompt, "params": self.params.model_dump(mode="json")}

    def ask(self, ensemble: Ensemble) -> Answer:
        """The generated text. A long answer may take up to half of the context."""
        prompt = fit_prompt(
            ensemble.members, self.prompt, min(self.params.max_new_tokens, ensemble.context_length // 2)
        )
        result = ensemble.generate(prompt, self.params)
        num_tokens = result.usage.completion_tokens
        return _count(result.fusion, Answer(num_tokens, result.text, is_shortened=prompt != self.prompt))


@final
@dataclass(frozen=True)
class ChatRequest(Request):
    """Reply to messages, which every member reads in its own template."""

    messages: tuple[tuple[str, str], ...]
    """Pairs of a role and a text."""
    params: SamplingParams

    def describe(self) -> dict[str, Any]:
        """The messages and how to decode."""
        return {"chat": [list(message) for message in self.messages], "params": self.params.model_dump(mode="json")}

    def ask(self, ensemble: Ensemble) -> Answer:
        """The generated text. Messages are never shortened."""
        result = ensemble.chat([{"role": role, "content": text} for role, text in self.messages], self.params)
        return _count(result.fusion, Answer(result.usage.completion_tokens, result.text))


@final
@dataclass(frozen=True)
class ScoreRequest(Request):
    """Say how probable a continuation of a context is. A context that is too long loses its beginning."""

    context: str
    continuation: str

    def describe(self) -> dict[str, Any]:
        """Both texts."""
        return {"score": self.context, "continuation": self.continuation}

    def ask(self, ensemble: Ensemble) -> Answer:
        """The log-probability.

        Raises:
            VocabularyError: The main model's vocabulary cannot express the continuation.
        """
        check_expressible(ensemble, self.continuation)
        context = fit_prompt(ensemble.members, self.context, self.continuation)
        result = ensemble.score(context, self.continuation)
        is_shortened = context != self.context
        answer = Answer(
            result.num_tokens, logprob=result.logprob, is_greedy=result.is_greedy, is_shortened=is_shortened
        )
        return _count(result.fusion, answer)


def check_expressible(ensemble: Ensemble, text: str) -> None:
    """Refuse text that the main model could never write: its log-probability would be that of an unknown token.

    Raises:
        VocabularyError: It names the member and the first character that it cannot express.
    """
    vocabulary = next(member.vocabulary for member in ensemble.members if member.name == ensemble.main_name)
    if vocabulary.can_express(text):
        return
    character = next((one for one in dict.fromkeys(text) if not vocabulary.can_express(one)), text)
    raise VocabularyError(
        f"the vocabulary of {vocabulary.name!r} cannot express {character!r}, so that text with it has no probability "
        "under that model: leave such text out, or take another main model"
    )


def _count(fusion: FusionReport | None, answer: Answer) -> Answer:
    """The answer with what is kept of how the members worked together."""
    if fusion is None:
        return answer
    return replace(
        answer,
        num_steps=fusion.num_steps,
        num_fused=fusion.num_fused,
        num_extra_rows=fusion.num_extra_rows,
        num_extra_passes=fusion.num_extra_passes,
    )


def read_answer(values: dict[str, Any]) -> Answer:
    """An answer from JSON values.

    Raises:
        CacheError: They are not those of an answer, but of another version's, say.
    """
    try:
        return Answer(**values)
    except TypeError as error:
        raise CacheError(
            f"a finished request must have the fields of an answer; got {sorted(values)}: it was kept by another "
            "version, so ask anew (--fresh, or delete the file)"
        ) from error


def write_answer(answer: Answer) -> dict[str, Any]:
    """An answer as JSON values."""
    return asdict(answer)
