"""Whether a structure can be followed at all, found out before any model is loaded."""

from __future__ import annotations

from deepen_llm.config import SamplingParams
from deepen_llm.errors import GrammarError
from deepen_llm.structure.deep_thread import run_deep
from deepen_llm.structure.grammar import build_grammar, locate
from deepen_llm.structure.matcher import check_grammar, shorten

SYNTAX = "https://github.com/microsoft/llguidance/blob/main/docs/syntax.md"
"""Where the notation of grammars is described."""


def check_structure(params: SamplingParams) -> None:
    """Refuse a structure that cannot be followed; without one, nothing is refused. It needs no vocabulary.

    Raises:
        GrammarError: A schema, regular expression or grammar that is not valid, or that cannot be expressed.
    """
    if not params.is_structured:
        return
    grammar = build_grammar(params, after_space=False)
    try:
        run_deep(lambda: check_grammar(grammar))
    except GrammarError as error:
        raise explain(params, str(error)) from error


def explain(params: SamplingParams, message: str) -> GrammarError:
    """What is wrong with the structure of a request, where, and what to do, from what llguidance says of it."""
    message = message.partition("<backtrace>")[0].strip() or "the grammar library gives no reason"
    if params.json_schema is not None:
        place = locate(params.json_schema, message)
        head = f"the JSON schema cannot be followed in decoding{f', at {shorten(place)}' if place else ''}: "
        before, _, keywords = message.partition("Unimplemented keys: ")
        if keywords and not before:
            return GrammarError(
                f"{head}it does not know {shorten(keywords.strip('[]'))}: leave it out or say it otherwise (a list in "
                "place of a set), and check the answer afterwards"
            )
        return GrammarError(f"{head}{shorten(message)}: correct that part")
    if params.regex is not None:
        reason = message.rpartition("error: ")[2].strip().split("\n")[0]
        return GrammarError(
            f"the regular expression {shorten(params.regex)!r} cannot be read: {shorten(reason)}: correct it"
        )
    return GrammarError(f"the grammar cannot be read: {shorten(message.splitlines()[0])}: see {SYNTAX}")
