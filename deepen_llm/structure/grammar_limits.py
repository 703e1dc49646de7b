"""How large a structure may be: what is refused before llguidance, which has few limits of its own, sees it.

A chain of rules that is too long ends the process there, and some small grammars take minutes and gigabytes. The limits
are far above what is written by hand or by pydantic.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import chain

from deepen_llm.config import SamplingParams
from deepen_llm.errors import GrammarError, quote
from deepen_llm.structure.pattern_limits import MAX_LITERAL, REPEAT, check_pattern, check_repeats
from deepen_llm.structure.schema_limits import MAX_CHARS, MAX_DEPTH, check_schema

MAX_RULES = 2000
"""Rules of a grammar and alternatives in them: each may refer to the next."""

MAX_RECURSIONS = 300
"""Mentions of rules by rules that lead back to themselves. Each may be begun at every byte, all of them at once."""

_RULE = re.compile(r"^[ \t]*[!?]?[_?]?([A-Za-z][\w-]*)[^:\n]*:", re.MULTILINE)
_NAME = re.compile(r"[A-Za-z][\w-]*")
_JSON = re.compile(r"%json\s*(?=[{\[])")
_TEXT = r'"(?:\\.|[^"\\\n])*"'
_LITERAL = re.compile(rf"{_TEXT}|/(?:\\.|[^/\\\n])+/[a-z]*|(?://|#)[^\n]*")
_SPECIAL = re.compile(r"<[^\s<>\[\]]+>")
_REPEAT = re.compile(r"~\s*([0-9]+)(?:\s*\.\.\s*([0-9]*))?")


def check_limits(params: SamplingParams) -> None:
    """Refuse a structure that is too large, or a JSON schema that is no JSON; the message names the place.

    Raises:
        GrammarError: See above.
    """
    if params.json_schema is not None:
        check_schema(params.json_schema)
    if params.regex is not None:
        check_pattern(params.regex, "the regular expression")
    if params.grammar is not None:
        _check_grammar(params.grammar)


def _check_grammar(grammar: str) -> None:
    """Refuse a grammar that is too large, or that has special tokens or JSON schemas that are too large."""
    _demand("characters", len(grammar), MAX_CHARS, "make it shorter")
    rules = _without_schemas(grammar)
    longest = max((len(found[0]) for found in _LITERAL.finditer(rules)), default=0)
    _demand("characters in a text or pattern", longest, MAX_LITERAL, "make it shorter")
    bare = _LITERAL.sub('""', rules)
    if special := _SPECIAL.search(bare):
        raise GrammarError(
            f"an answer by a grammar is text, and has no special tokens; got {quote(special[0])}: leave it out, the "
            "answer ends where the grammar does; or write it as a text, in quotes"
        )
    check_repeats(chain(REPEAT.finditer(re.sub(_TEXT, '""', rules)), _REPEAT.finditer(bare)), "the grammar")
    num_rules = len(_RULE.findall(bare)) + bare.count("|")
    _demand("rules and alternatives", num_rules, MAX_RULES, "write fixed texts as one terminal, /a|b|c/")
    _demand("mentions of rules that lead back to themselves", _num_recursions(bare), MAX_RECURSIONS, "make it simpler")


def _demand(what: str, number: int, most: int, advice: str) -> None:
    if number > most:
        raise GrammarError(f"the grammar has at most {most:,} {what}; got {number:,}: {advice}")


def _without_schemas(grammar: str) -> str:
    """The grammar without the JSON schemas in it, which are checked each by itself."""
    parts, end = list[str](), 0
    for found in _JSON.finditer(grammar):
        if found.start() < end:
            continue
        try:
            schema, next_end = json.JSONDecoder().raw_decode(grammar, found.end())
        except RecursionError as error:
            raise GrammarError(f"a JSON schema in the grammar is at most {MAX_DEPTH} levels deep") from error
        except ValueError:  # within a text or a comment, or wrong: llguidance says where
            continue
        check_schema(schema)
        parts.append(grammar[end : found.end()])
        end = next_end
    return "".join((*parts, grammar[end:]))


def _num_recursions(bare: str) -> int:
    """How often rules mention rules that lead back to rules, in a grammar without its texts and patterns."""
    _, *pieces = _RULE.split(bare)
    mentions: dict[str, Counter[str]] = {}
    for name, body in zip(pieces[::2], pieces[1::2], strict=True):
        mentions.setdefault(name, Counter()).update(_NAME.findall(body))
    users: dict[str, list[str]] = {}
    for name, mentioned in mentions.items():
        for other in mentioned:
            users.setdefault(other, []).append(name)
    ending = [other for other in users if other not in mentions] + [name for name, one in mentions.items() if not one]
    while ending:  # what mentions nothing but what ends, ends too
        end = ending.pop()
        for name in users.get(end, ()):
            del mentions[name][end]
            if not mentions[name]:
                ending.append(name)
    return sum(mentioned.total() for mentioned in mentions.values())
