"""A request to go on from a prompt, which may be text or tokens, and what the ensemble is asked for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

from deepen_llm.config import SamplingParams
from deepen_llm.ensemble import Ensemble
from deepen_llm.errors import quote
from deepen_llm.requests.token_prompt import TokenPrompt
from deepen_llm.server.refusals import RefusedError
from deepen_llm.server.request_fields import RequestFields
from deepen_llm.server.settings import ServerSettings

MAX_TOKENS = 16
"""What OpenAI documents where no limit is given."""


@final
@dataclass(frozen=True, slots=True)
class CompletionPlan:
    """What goes to the ensemble, and what is told of it."""

    prompts: list[str | TokenPrompt]
    params: SamplingParams | None
    """None where nothing is generated."""
    num_top: int | None
    """How many alternatives are told of each token; None: no log-probabilities at all."""
    echoes: bool = False
    """Whether an answer begins with its prompt."""
    writes_ids: bool = False
    """Whether tokens are told by their ids, "token_id:42"."""
    timeout_s: float | None = None

    @property
    def num_answers(self) -> int:
        """How many sequences it takes."""
        return len(self.prompts) * (1 if self.params is None else self.params.n)


class CompletionRequest(RequestFields):
    """The body of `/v1/completions`."""

    neutral: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "best_of": (1,),
        "suffix": ("",),
        "add_special_tokens": (True,),
        "skip_special_tokens": (True,),
        "return_token_ids": (False,),
    }

    prompt: str | list[str] | list[int] | list[list[int]]
    """A text, or tokens of the model that is asked, or several of either."""
    max_tokens: int | None = None
    """16 where it is not given; 0, with `echo`, generates nothing."""
    logprobs: int | None = None
    """With how many alternatives log-probabilities are told; of the prompt too, with `echo`."""
    echo: bool = False
    return_tokens_as_token_ids: bool = False
    """Tell tokens by their ids, "token_id:42": texts of tokens need not differ."""

    def plan(self, ensemble: Ensemble, settings: ServerSettings) -> CompletionPlan:
        """What to ask of an ensemble, within the limits of a server. Compiles structures: not for an event loop.

        Raises:
            RefusedError: Something that cannot be done; it names the field.
        """
        self.check_fields()
        most = settings.max_tokens
        self.check_max_tokens(self.max_tokens, most)
        asked = min(MAX_TOKENS, most or MAX_TOKENS) if self.max_tokens is None else self.max_tokens
        if asked == 0 and not self.echo:
            raise RefusedError("max_tokens=0 asks for nothing: raise it, or set echo", param="max_tokens")
        params = self.sampling_params(
            settings.timeout_s, ensemble.member_names, max_new_tokens=asked or 1, logprobs=self.logprobs
        )
        return CompletionPlan(
            self._read_prompts(),
            params if asked else None,
            self.logprobs,
            self.echo,
            self.return_tokens_as_token_ids,
            params.timeout_s,
        )

    def _read_prompts(self) -> list[str | TokenPrompt]:
        given = self.prompt
        if isinstance(given, str):
            return [given]
        if not given:
            raise RefusedError(f"prompt must hold something; got {quote(given)}", param="prompt")
        if isinstance(given[0], int):
            return [TokenPrompt(tuple(given))]
        return [one if isinstance(one, str) else TokenPrompt(tuple(one)) for one in given]
