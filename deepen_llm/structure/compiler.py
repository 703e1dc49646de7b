"""From a request to a grammar over the main model's tokens, compiled once for all requests that ask for the same.

The grammars, their tables over a vocabulary and the masks are llguidance's. It was taken before xgrammar because it
refuses what it cannot express instead of passing over it, takes a vocabulary as plain bytes, needs no other package,
and can be copied and asked byte by byte, which closing an answer in time rests on (docs/structure.md).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import final

import llguidance
import torch
from torch import Tensor

from deepen_llm.config import SamplingParams
from deepen_llm.errors import GrammarError
from deepen_llm.structure.check import explain
from deepen_llm.structure.completion import ByteTokenizer, find_completion
from deepen_llm.structure.deep_thread import Waiting, run_deep
from deepen_llm.structure.grammar import build_grammar
from deepen_llm.structure.matcher import Matcher, load_tokenizer, shorten
from deepen_llm.vocabulary import Vocabulary

MAX_KEPT = 64
"""Compiled grammars that are kept, the last used ones."""


@final
@dataclass(frozen=True, slots=True)
class Structure:
    """A compiled grammar. Both matchers stand at the beginning and are only copied."""

    tokens: Matcher
    """Over the main model's tokens."""
    text: Matcher
    """Over single bytes."""
    completion: bytes | None
    """The shortest answer, or nearly; None where none was found."""


@final
class StructureCompiler:
    """Compiles grammars for one vocabulary. Safe to share between threads."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        """Nothing is compiled yet; the vocabulary's tables are made at the first request."""
        self.vocabulary = vocabulary
        self.expressible = bytes(byte for byte, token_id in enumerate(vocabulary.byte_ids) if token_id is not None)
        """The bytes that are tokens by themselves."""
        self._kept: OrderedDict[str, Structure] = OrderedDict()
        self._lock = threading.Lock()

    def compile(
        self, params: SamplingParams, *, after_space: bool = False, deadline: Waiting | None = None
    ) -> Structure:
        """The grammar that `params` ask for; see `build_grammar` for `after_space`.

        Raises:
            GrammarError: A schema, regular expression or grammar that is not valid, that is too large, or that cannot
                be expressed.
            MemberTimeoutError: The deadline was over first.
        """
        grammar = build_grammar(params, after_space=after_space)
        with self._lock:
            if grammar in self._kept:
                self._kept.move_to_end(grammar)
                return self._kept[grammar]
        # Outside the lock: what is compiled already is not waited for.
        structure = self._compile(grammar, params, deadline)
        with self._lock:
            self._kept[grammar] = structure
            if len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        return structure

    def forget(self, structure: Structure) -> None:
        """Compile a structure anew when it is next asked for: one whose lexer is full serves nobody any more."""
        with self._lock:
            self._kept = OrderedDict(pair for pair in self._kept.items() if pair[1] is not structure)

    def allowed(self, matcher: Matcher) -> Tensor:
        """A mask (num_tokens,) on the CPU of the tokens that may come: end-of-sequence where the answer may end."""
        bias = torch.frombuffer(bytearray(matcher.bias()), dtype=torch.uint8)
        # What is neither text nor end of text, llguidance may let through.
        return bias[: len(self.vocabulary)].bool() & self.vocabulary.allowed

    def _compile(self, grammar: str, params: SamplingParams, deadline: Waiting | None) -> Structure:
        tokenizers = self._tokenizer, self._bytes
        try:
            tokens, text = run_deep(lambda: tuple(Matcher(one, grammar) for one in tokenizers), deadline)
        except GrammarError as error:
            raise explain(params, str(error)) from error
        if not tokens.is_accepting() and not self.allowed(tokens).any():
            raise self._unspeakable(text)

        def check() -> None:
            if deadline is not None and deadline.is_over:
                raise deadline.error

        return Structure(tokens, text, find_completion(text, self.expressible, check=check))

    def _unspeakable(self, text: Matcher) -> GrammarError:
        """No token can begin an answer of this grammar."""
        forced = text.forced_bytes().decode("utf-8", "replace")
        begins = f"such an answer begins with {shorten(forced)!r}, for which" if forced else "to begin such an answer"
        return GrammarError(
            f"{begins} the main model {self.vocabulary.name!r} has no token: make another member the main model"
        )

    @cached_property
    def _tokenizer(self) -> llguidance.LLTokenizer:
        return load_tokenizer(_TokenBytes(self.vocabulary), _eos_ids(self.vocabulary))

    @cached_property
    def _bytes(self) -> llguidance.LLTokenizer:
        return ByteTokenizer.load()


@final
class _TokenBytes:
    """A vocabulary as llguidance asks for it."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        eos_ids = _eos_ids(vocabulary)
        self.eos_token_id = eos_ids[0]
        self.bos_token_id = None
        self.tokens = [token or b"" for token in vocabulary.tokens]
        self.tokens += [b""] * (max(eos_ids) + 1 - len(self.tokens))
        self.special_token_ids = [token_id for token_id, token in enumerate(self.tokens) if not token]

    def __call__(self, text: bytes | str) -> list[int]:
        if isinstance(text, bytes):
            text = text.decode("utf-8", "replace")
        return self._vocabulary.encode(text, at_start=False)


def _eos_ids(vocabulary: Vocabulary) -> list[int]:
    """The ids that end a text; where there is none, one after all others, which no model can say."""
    return list(vocabulary.eos_ids) or [len(vocabulary)]
