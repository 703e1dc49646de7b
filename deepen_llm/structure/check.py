"""Whether a structure can be followed at all, found out before any model is loaded."""

from __future__ import annotations

import llguidance

from deepen_llm.config import SamplingParams
from deepen_llm.errors import GrammarError
from deepen_llm.structure.grammar import build_grammar, locate


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
    reason = " ".join(message.split())
    if params.json_schema is not None:
        place = locate(params.json_schema, message)
        return (
            f"the JSON schema cannot be expressed as a grammar{f', at {place}' if place else ''}: {reason}: "
            "write that part with keywords that can, or leave it out and check the answer afterwards"
        )
    kind = "regular expression" if params.regex is not None else "grammar"
    return f"the {kind} cannot be read: {reason}: see the syntax that llguidance documents"
