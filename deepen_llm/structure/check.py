"""Whether a structure can be followed at all, found out before any model is loaded."""

from __future__ import annotations

import llguidance

from deepen_llm.config import SamplingParams
from deepen_llm.errors import GrammarError
from deepen_llm.structure.grammar import build_grammar, locate

SYNTAX = "https://github.com/microsoft/llguidance/blob/main/docs/syntax.md"
"""Where the notation of grammars is described."""


def check_structure(params: SamplingParams) -> None:
    """Refuse a structure that cannot be followed; without one, nothing is refused. It needs no vocabulary.

    Raises:
        GrammarError: A schema, regular expression or grammar that is not valid, or that cannot be expressed.
    """
    if params.is_structured:
        check_grammar(build_grammar(params, after_space=False), params)


def check_grammar(grammar: str, params: SamplingParams, tokenizer: llguidance.LLTokenizer | None = None) -> None:
    """Refuse a grammar that was built of `params`; with a tokenizer, also for what it says of special tokens.

    Raises:
        GrammarError: See `check_structure`.
    """
    is_wrong, messages = llguidance.LLMatcher.validate_grammar_with_warnings(grammar, tokenizer)
    if is_wrong:
        raise GrammarError(_explain(params, messages[0]))


def _explain(params: SamplingParams, message: str) -> str:
    """What is wrong, where, and what to do."""
    if params.json_schema is not None:
        place = locate(params.json_schema, message)
        head = f"the JSON schema cannot be followed in decoding{f', at {place}' if place else ''}: "
        before, _, keywords = message.partition("Unimplemented keys: ")
        if keywords and not before:
            return (
                f"{head}it does not know {keywords.strip('[]')}: leave it out or say it otherwise (a list in place of "
                "a set), and check the answer afterwards"
            )
        return f"{head}{' '.join(message.split())}: correct that part"
    if params.regex is not None:
        reason = message.rpartition("error: ")[2].split("\n")[0].strip()
        return f"the regular expression {params.regex!r} cannot be read: {reason}: correct it"
    return f"the grammar cannot be read: {message.splitlines()[0]}: see {SYNTAX}"
