"""What a caller hands over, before anything is done with it: an argument of another type is refused by its name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deepen_llm.config import SamplingParams
from deepen_llm.errors import ConfigError, PromptError
from deepen_llm.requests.token_prompt import TokenPrompt
from deepen_llm.vocabulary.chat import check_text


def check_params(params: object) -> SamplingParams:
    """The parameters; None are the defaults.

    Raises:
        ConfigError: They are something else.
    """
    if params is None:
        return SamplingParams()
    if not isinstance(params, SamplingParams):
        raise ConfigError(
            f"params must be SamplingParams; got {_name_type(params)}: write SamplingParams(max_new_tokens=...)"
        )
    return params


def check_params_of_stream(params: object) -> SamplingParams:
    """The parameters of a stream, which gives one answer. Raises `ConfigError` also where they ask for several."""
    checked = check_params(params)
    if checked.n > 1:
        raise ConfigError(f"n must be 1 in a stream, which gives one answer; got {checked.n}: ask without streaming")
    return checked


def check_prompt(prompt: object, what: str = "the prompt") -> str | TokenPrompt:
    """One prompt. Raises `PromptError` for anything else, and for a text with half a character."""
    return prompt if isinstance(prompt, TokenPrompt) else check_text(prompt, what)


def check_prompts(prompt: object) -> list[str | TokenPrompt]:
    """One prompt, or several, as a list. Raises `PromptError` as `check_prompt`, and for something else."""
    if isinstance(prompt, (str, TokenPrompt)):
        return [check_prompt(prompt)]
    if not isinstance(prompt, (list, tuple)):
        raise PromptError(f"the prompt must be a string or a list of strings; got {_name_type(prompt)}")
    return [check_prompt(text, f"prompt {index}") for index, text in enumerate(prompt)]


def check_pairs(pairs: object, first: str, second: str) -> Sequence[tuple[Any, Any]]:
    """Pairs of a list, of whatever they are.

    Args:
        pairs: To check.
        first: What the first of a pair is called.
        second: The other one.

    Raises:
        PromptError: No list, or something else in it.
    """
    if not isinstance(pairs, (list, tuple)):
        raise PromptError(f"pairs must be a list of ({first}, {second}); got {_name_type(pairs)}")
    for index, pair in enumerate(pairs):
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            what = f"{len(pair)} values" if isinstance(pair, (list, tuple)) else _name_type(pair)
            raise PromptError(f"pairs must be a list of ({first}, {second}); pair {index} is {what}")
    return pairs


def _name_type(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
