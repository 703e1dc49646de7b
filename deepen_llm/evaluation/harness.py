"""An ensemble, or one member alone, as a model of lm-evaluation-harness."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from deepen_llm.config import SamplingParams
from deepen_llm.errors import ConfigError, MissingDependencyError, PromptError
from deepen_llm.evaluation.context_window import split_rolling
from deepen_llm.evaluation.request_cache import RequestCache
from deepen_llm.evaluation.requests import Answer, ChatRequest, GenerateRequest, Request, ScoreRequest
from deepen_llm.evaluation.runner import Runner

try:
    from lm_eval.api.model import LM
except ImportError as missing:
    raise MissingDependencyError("evaluation tasks need lm-eval: pip install 'deepen-llm[eval]'") from missing

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

    from deepen_llm.ensemble import Ensemble

logger = logging.getLogger(__name__)

CHAT_MARK = "\x02deepen-chat\x02"
"""Begins a prompt that is a chat: its messages follow as JSON, for each member to put into its own template."""
DEFAULT_MAX_NEW_TOKENS = 256
KNOWN_SETTINGS = {"until", "max_gen_toks", "max_tokens", "do_sample", "temperature", "top_p", "top_k", "min_p", "seed"}


@final
class HarnessModel(LM):  # type: ignore[misc]  # lm-eval carries no types
    """What `lm_eval.simple_evaluate(model=...)` and `lm_eval.evaluate(lm=...)` take.

    With `apply_chat_template`, every member reads the messages in its own template; answers are generated, scoring in
    a chat is refused. Prompts that are too long lose their beginning, and a warning says how many did.
    """

    def __init__(self, runner: Runner) -> None:
        super().__init__()
        self._runner = runner

    @classmethod
    def from_ensemble(cls, ensemble: Ensemble, cache: str | Path | None = None) -> HarnessModel:
        """A model that keeps finished requests in the file `cache` (JSON lines), where it is given.

        Raises:
            CacheError: A cache file that cannot be used.
        """
        return cls(Runner(ensemble, RequestCache(None if cache is None else Path(cache))))

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """The natural-log probability of each continuation, and whether greedy decoding would produce it.

        An empty context is the model's own start of a text, or a newline where a member has none.

        Raises:
            PromptError: A context that is a chat, or a pair that cannot be run.
            VocabularyError: The main model cannot express a continuation.
        """
        asked = [self._make_score(*request.args) for request in requests]
        return [(answer.logprob, answer.is_greedy) for answer in self._answer(asked)]

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """The natural-log probability of each text; a long one in pieces, each after the piece before it."""
        pieces = [split_rolling(self._runner.ensemble.members, request.args[0]) for request in requests]
        asked = [self._make_score(*pair) for text in pieces for pair in text]
        logprobs = iter([answer.logprob for answer in self._answer(asked)])
        return [sum(next(logprobs) for _ in text) for text in pieces]

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """An answer to each prompt, cut before the first of the strings in `until`.

        Raises:
            ConfigError: Generation settings that are not known.
            PromptError: A prompt that cannot be run.
        """
        asked = []
        for position, request in enumerate(requests):
            prompt, settings = request.args
            asked.append(self._make_generate(prompt, settings, position))
        return [answer.text for answer in self._answer(asked)]

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The messages, marked so that each member puts them into its own template when it reads them.

        Raises:
            PromptError: A member has no chat template, or the answer is to begin with given words.
        """
        if not self._runner.ensemble.has_chat_template:
            raise PromptError("not every member has a chat template: evaluate without it, or give MemberConfig one")
        if not add_generation_prompt:
            raise PromptError("an answer cannot begin with given words in a chat: take the prefix out of the task")
        return CHAT_MARK + json.dumps([[message["role"], message["content"]] for message in chat_history])

    @property
    def tokenizer_name(self) -> str:
        """The members' names: what lm-eval tells its caches of prompts apart by."""
        return "+".join(self._runner.ensemble.member_names)

    def chat_template(self, chat_template: bool | str = False) -> str:
        """Nothing to show: every member has a template of its own."""
        del chat_template
        return ""

    def _answer(self, requests: Sequence[Request]) -> list[Answer]:
        answers = self._runner.answer(requests)
        if shortened := sum(answer.is_shortened for answer in answers):
            logger.warning("%d of %d prompts were too long: their beginnings were left out", shortened, len(answers))
        return answers

    def _make_score(self, context: str, continuation: str) -> ScoreRequest:
        if context.startswith(CHAT_MARK):
            raise PromptError("continuations cannot be scored in a chat: evaluate without the chat template")
        has_start = all(member.vocabulary.prefix_ids for member in self._runner.ensemble.members)
        return ScoreRequest(context if context or has_start else "\n", continuation)

    def _make_generate(self, prompt: str, settings: Mapping[str, Any], position: int) -> Request:
        params = read_settings(settings, position)
        if not prompt.startswith(CHAT_MARK):
            return GenerateRequest(prompt, params)
        messages = json.loads(prompt.removeprefix(CHAT_MARK))
        return ChatRequest(tuple((role, text) for role, text in messages), params)


def read_settings(settings: Mapping[str, Any], position: int = 0) -> SamplingParams:
    """Generation settings as a task of lm-eval writes them; a request that samples is seeded with its position.

    Raises:
        ConfigError: A setting that is not known, or a value that cannot be used.
    """
    if unknown := sorted(set(settings) - KNOWN_SETTINGS):
        raise ConfigError(f"generation settings must be among {', '.join(sorted(KNOWN_SETTINGS))}; got {unknown}")
    stop = settings.get("until") or ()
    samples = settings.get("do_sample", bool(settings.get("temperature")))
    given = {name: settings[name] for name in ("top_p", "top_k", "min_p") if settings.get(name) is not None and samples}
    return SamplingParams(
        max_new_tokens=int(settings.get("max_gen_toks") or settings.get("max_tokens") or DEFAULT_MAX_NEW_TOKENS),
        stop=(stop,) if isinstance(stop, str) else tuple(filter(None, stop)),
        temperature=float(settings.get("temperature") or 1.0) if samples else 0.0,
        seed=int(settings.get("seed", position)) if samples else None,
        **given,
    )
