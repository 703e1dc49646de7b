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
from deepen_llm.structure.check import check_grammar
from deepen_llm.structure.completion import ByteTokenizer, find_completion
from deepen_llm.structure.grammar import build_grammar
from deepen_llm.vocabulary import Vocabulary

MAX_KEPT = 64
"""Compiled grammars that are kept, the last used ones."""


@final
@dataclass(frozen=True, slots=True)
class Structure:
    """A compiled grammar. Both matchers stand at the beginning and are only copied."""

    tokens: llguidance.LLMatcher
    """Over the main model's tokens."""
    text: llguidance.LLMatcher
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

    def compile(self, params: SamplingParams, *, after_space: bool = False) -> Structure:
        """The grammar that `params` ask for; see `build_grammar` for `after_space`.

        Raises:
            GrammarError: A schema, regular expression or grammar that is not valid, or that cannot be expressed.
        """
        grammar = build_grammar(params, after_space=after_space)
        with self._lock:
            if grammar in self._kept:
                self._kept.move_to_end(grammar)
                return self._kept[grammar]
        # Outside the lock: what is compiled already is not waited for.
        structure = self._compile(grammar, params)
        with self._lock:
            self._kept[grammar] = structure
            if len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        return structure

    def allowed(self, matcher: llguidance.LLMatcher) -> Tensor:
        """A mask (num_tokens,) on the CPU of the tokens that may come: end-of-sequence where the answer may end."""
        bias = torch.frombuffer(bytearray(matcher.compute_logit_bias()), dtype=torch.uint8)
        # What is neither text nor end of text, llguidance may let through.
        return bias[: len(self.vocabulary)].bool() & self.vocabulary.allowed

    def _compile(self, grammar: str, params: SamplingParams) -> Structure:
        check_grammar(grammar, params, self._tokenizer)
        tokens = llguidance.LLMatcher(self._tokenizer, grammar, log_level=0)
        text = llguidance.LLMatcher(self._bytes, grammar, log_level=0)
        if not tokens.is_accepting() and not self.allowed(tokens).any():
            forced = text.compute_ff_bytes().decode("utf-8", "replace")
            begins = f"such an answer begins with {forced!r}, for which" if forced else "to begin such an answer"
            raise GrammarError(
                f"{begins} the main model {self.vocabulary.name!r} has no token: make another member the main model"
            )
        return Structure(tokens, text, find_completion(text, self.expressible))

    @cached_property
    def _tokenizer(self) -> llguidance.LLTokenizer:
        return llguidance.LLTokenizer(
            llguidance.TokenizerWrapper(_TokenBytes(self.vocabulary)), eos_token=_eos_ids(self.vocabulary)
        )

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
