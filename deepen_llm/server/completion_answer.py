"""Answers of the ensemble as texts that go on, whole or piece by piece, with or without their prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

from openai.types import Completion, CompletionChoice
from openai.types.completion_choice import Logprobs

from deepen_llm.requests.token_prompt import TokenPrompt, check_ids, spell
from deepen_llm.results import Chunk, FinishReason, Generation, TokenLogprob, Usage
from deepen_llm.server.answer_parts import Origin, finite, logprob_of, tell_members, tell_usage
from deepen_llm.server.completion_request import CompletionPlan


class TokenLogprobs(Logprobs):
    """What is told of tokens: nothing of those at the beginning of a prompt."""

    token_logprobs: list[float | None] | None = None  # type: ignore[assignment]
    top_logprobs: list[dict[str, float] | None] | None = None  # type: ignore[assignment]


class Choice(CompletionChoice):
    """A choice, or a piece of one, which has no finish reason until the last."""

    finish_reason: FinishReason | None  # type: ignore[assignment]
    logprobs: TokenLogprobs | None = None


@final
@dataclass(frozen=True, slots=True)
class Echo:
    """A prompt that is given back."""

    text: str
    ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] = ()
    """Of the last tokens, mostly of all but the first; empty where they were not asked for."""

    @classmethod
    def make(cls, prompt: str | TokenPrompt, logprobs: tuple[TokenLogprob, ...], origin: Origin) -> Echo:
        """The prompt in the main model's tokens. Raises `PromptError` for what are none."""
        if isinstance(prompt, str):
            return cls(prompt, origin.vocabulary.encode_prompt(prompt).ids, logprobs)
        check_ids(prompt.ids, origin.vocabulary)
        return cls(spell(prompt.ids, origin.vocabulary), prompt.ids, logprobs)


@final
class CompletionAnswer:
    """Makes the choices of one response, whose prompts and what is told of tokens the plan knows."""

    def __init__(self, plan: CompletionPlan, origin: Origin) -> None:
        self._plan, self._origin = plan, origin
        self._lengths: dict[int, int] = {}
        """How long the text of each choice's tokens is so far."""

    def whole(self, answers: Sequence[Generation | None], echoes: Sequence[Echo | None]) -> Completion:
        """All choices: `answers` and `echoes` are one per prompt; None where there is none."""
        choices: list[CompletionChoice] = []
        usages: list[Usage] = []
        for answer, echo in zip(answers, echoes, strict=True):
            if answer is None:
                choices.append(self.choice(len(choices), None, echo))
                usages.append(Usage(len(echo.ids) if echo else 0, 0))
                continue
            usages.append(answer.total_usage)
            for one in answer.answers:
                choices.append(self.choice(len(choices), one, echo))
        return self.completion(choices, usage=tell_usage(usages))

    def choice(self, index: int, answer: Generation | Chunk | None, echo: Echo | None = None) -> Choice:
        """One choice, or a piece of it, behind its prompt where that is given back."""
        told: dict[str, Any] = tell_members(answer, self._origin.member_names) if answer else {}
        extension: dict[str, Any] = {"deepen": told} if told else {}
        end = answer.finish_reason if answer else "length" if self._plan.params is None else None
        return Choice(
            index=index,
            text=(echo.text if echo else "") + (answer.text if answer else ""),
            logprobs=self._logprobs(index, answer, echo),
            finish_reason=end,
            **extension,
        )

    def completion(self, choices: Sequence[CompletionChoice], **details: Any) -> Completion:
        """A response, or a piece of one."""
        origin = self._origin
        return Completion(
            id=origin.id,
            object="text_completion",
            created=origin.created,
            model=origin.model,
            choices=list(choices),
            **details,
        )

    def _logprobs(self, index: int, answer: Generation | Chunk | None, echo: Echo | None) -> TokenLogprobs | None:
        if self._plan.num_top is None:
            return None
        told: list[tuple[int, TokenLogprob | None]] = []
        if echo is not None:
            num_untold = len(echo.ids) - len(echo.logprobs)
            told += zip(echo.ids, [*[None] * num_untold, *echo.logprobs], strict=True)
        told += [(one.token_id, one) for one in (answer.logprobs or () if answer else ())]
        return self._tell(index, told)

    def _tell(self, index: int, told: Sequence[tuple[int, TokenLogprob | None]]) -> TokenLogprobs:
        """Tokens in the form of completions; the token itself is among its alternatives."""
        texts = [self._origin.vocabulary.display(token_id) for token_id, _ in told]
        end = self._lengths.get(index, 0)
        offsets = []
        for text in texts:
            offsets.append(end)
            end += len(text)
        self._lengths[index] = end
        return TokenLogprobs(
            tokens=[self._name(token_id, text) for (token_id, _), text in zip(told, texts, strict=True)],
            token_logprobs=[None if one is None else finite(one.logprob) for _, one in told],
            top_logprobs=[None if one is None else self._tops(token_id, one) for token_id, one in told],
            text_offset=offsets,
        )

    def _tops(self, token_id: int, one: TokenLogprob) -> dict[str, float]:
        """Of tokens that read alike, the best one counts."""
        tops = {self._name(other.token_id, other.text): logprob_of(other) for other in reversed(one.top)}
        return {**tops, self._name(token_id, one.text): finite(one.logprob)}

    def _name(self, token_id: int, text: str) -> str:
        return f"token_id:{token_id}" if self._plan.writes_ids else text
