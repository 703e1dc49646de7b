"""The one door to llguidance: what follows a grammar, and what makes it. Whatever fails behind it is a GrammarError."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar, final

import llguidance

from deepen_llm.errors import GrammarError

MAX_ROW = 2000
"""Ways in which a text may be read at once. A JSON schema takes some 4 for every property that may be left out."""

MAX_ROW_OF_GRAMMAR = 600
"""The same for a grammar, which may be ambiguous: the time that a byte takes grows with the cube of it, to 0.02 s."""

MAX_ROW_OF_TOOLS = 1000
"""The same for a grammar with JSON schemas in it."""

MAX_MESSAGE = 300
"""So many characters of a message of llguidance are passed on: it may quote the grammar, or a Rust backtrace."""

_Params = ParamSpec("_Params")
_Result = TypeVar("_Result")


def call(function: Callable[_Params, _Result], *args: _Params.args, **kwargs: _Params.kwargs) -> _Result:
    """What a function of llguidance returns.

    Raises:
        GrammarError: Whatever it raises, Rust's panics among it, which are no `Exception`.
    """
    try:
        return function(*args, **kwargs)
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        raise GrammarError(str(error)) from error


def shorten(message: str) -> str:
    """A message of llguidance in a line of printable characters, without a backtrace, and cut where it is too long."""
    message = " ".join(re.split(r"<(?:backtrace|state|non-verbose/)>", message)[0].split())
    message = message if len(message) <= MAX_MESSAGE else f"{message[:MAX_MESSAGE]}..."
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in message)


def load_tokenizer(tokenizer: Any, eos_ids: list[int] | None = None) -> llguidance.LLTokenizer:
    """A tokenizer as llguidance takes it."""
    return call(llguidance.LLTokenizer, llguidance.TokenizerWrapper(tokenizer), eos_token=eos_ids)


def check_grammar(grammar: str) -> None:
    """Refuse a grammar for what is wrong with it whatever the vocabulary.

    Raises:
        GrammarError: It is not valid, or too large; the message is llguidance's.
    """
    is_wrong, messages = call(
        llguidance.LLMatcher.validate_grammar_with_warnings, grammar, None, limits=_limits(grammar)
    )
    if is_wrong:
        raise GrammarError(messages[0])


def _limits(grammar: str) -> llguidance.LLParserLimits:
    """What a grammar may cost llguidance: a state of a lexer takes some 2 kB, and 1,000 properties are 10,000 symbols.

    Its errors do not quote the grammar, which is the user's.
    """
    without_json = MAX_ROW_OF_TOOLS if "%json" in grammar else MAX_ROW_OF_GRAMMAR
    max_row = MAX_ROW if '"json_schema": {' in grammar else without_json
    return llguidance.LLParserLimits(
        max_items_in_row=max_row,
        initial_lexer_fuel=500_000,
        max_lexer_states=50_000,
        max_grammar_size=100_000,
        verbose_errors=False,
    )


@final
class Matcher:
    """Follows a grammar over the tokens of one tokenizer.

    Every method raises GrammarError where llguidance fails or comes to its limits; from then on it always does.
    """

    __slots__ = ("_matcher",)

    def __init__(self, tokenizer: llguidance.LLTokenizer, grammar: str) -> None:
        """Stands at the beginning.

        Raises:
            GrammarError: The grammar is not valid, or too large; the message is llguidance's.
        """
        self._matcher = call(llguidance.LLMatcher, tokenizer, grammar, log_level=0, limits=_limits(grammar))
        if call(self._matcher.is_error):
            raise GrammarError(call(self._matcher.get_error))

    def copy(self) -> Matcher:
        """Another one that stands at the same place."""
        copied = Matcher.__new__(Matcher)
        copied._matcher = call(self._matcher.deep_copy)
        return copied

    def is_accepting(self) -> bool:
        """Whether the text is whole as it stands."""
        return self._checked(call(self._matcher.is_accepting))

    def is_stopped(self) -> bool:
        """Whether nothing can come any more."""
        return self._checked(call(self._matcher.is_stopped))

    def bias(self) -> bytes:
        """A byte per token, 0 where it may not come."""
        return self._checked(call(self._matcher.compute_logit_bias))

    def bitmask(self) -> bytes:
        """A bit per token, 0 where it may not come."""
        return self._checked(call(self._matcher.compute_bitmask))

    def forced_bytes(self) -> bytes:
        """The bytes that alone can come next."""
        return self._checked(call(self._matcher.compute_ff_bytes))

    def forced_tokens(self) -> list[int]:
        """The tokens that alone can come next."""
        return self._checked(call(self._matcher.compute_ff_tokens))

    def take(self, token_id: int) -> None:
        """Take a token that may come."""
        self._checked(call(self._matcher.consume_token, token_id))

    def take_all(self, token_ids: Sequence[int]) -> int:
        """Take tokens as far as they may come; return how many."""
        return self._checked(call(self._matcher.try_consume_tokens, list(token_ids)))

    def drop(self, num_tokens: int) -> None:
        """Go back by so many tokens."""
        self._checked(call(self._matcher.rollback, num_tokens))

    def _checked(self, result: _Result) -> _Result:
        """Llguidance mostly does not raise: it goes into a state of error, in which its answers mean nothing."""
        if call(self._matcher.is_error):
            reason = shorten(call(self._matcher.get_error))
            raise GrammarError(f"the structure cannot be followed on: {reason}: make it simpler")
        return result
