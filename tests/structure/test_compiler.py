"""Grammars over one vocabulary, compiled once for all who ask for the same."""

from __future__ import annotations

import time

import pytest
import torch

from deepen_llm import SamplingParams
from deepen_llm.errors import GrammarError, MemberTimeoutError
from deepen_llm.requests.deadline import Deadline
from deepen_llm.structure import StructureCompiler, compiler
from tests.toy_tokenizers import byte_level_bpe
from tests.vocabularies import load_toy


def test_what_was_compiled_is_kept_and_the_oldest_goes_first(monkeypatch):
    monkeypatch.setattr(compiler, "MAX_KEPT", 2)
    compiles = StructureCompiler(load_toy("gpt2"))
    first, second, third = (SamplingParams(regex=text) for text in ("ab", "cd", "ef"))
    kept = compiles.compile(first)
    assert compiles.compile(first) is kept
    compiles.compile(second)
    assert compiles.compile(first) is kept
    compiles.compile(third)
    assert compiles.compile(first) is kept
    again = compiles.compile(second)
    assert again is not kept and compiles.compile(second) is again


@pytest.mark.parametrize("kind", ["gpt2", "llama", "unigram"])
def test_only_tokens_that_the_vocabulary_allows_may_come(kind):
    vocabulary = load_toy(kind)
    compiles = StructureCompiler(vocabulary)
    structure = compiles.compile(SamplingParams(regex="(the|a).*"))
    allowed = compiles.allowed(structure.tokens)
    assert allowed.shape == (len(vocabulary),) and allowed.any()
    assert not (allowed & ~vocabulary.allowed).any()
    assert not allowed[list(vocabulary.eos_ids)].any()
    for token_id in allowed.nonzero().flatten().tolist():
        assert vocabulary.tokens[token_id][:1] in (b"t", b"a")


def test_the_shortest_answer_is_found_with_the_grammar():
    structure = StructureCompiler(load_toy("gpt2")).compile(SamplingParams(json_schema={"type": "boolean"}))
    assert structure.completion in (b"true", b"false")


def test_a_vocabulary_without_the_needed_bytes_is_named():
    from deepen_llm.vocabulary import Vocabulary

    vocabulary = Vocabulary.from_tokenizer(byte_level_bpe(), name="main")
    compiles = StructureCompiler(vocabulary)
    compiles.allowed = lambda matcher: torch.zeros(len(vocabulary), dtype=torch.bool)
    with pytest.raises(GrammarError, match="for which the main model 'main' has no token: make another member"):
        compiles.compile(SamplingParams(regex="ab+"))


def test_compiling_ends_at_the_deadline_of_the_request():
    compiles = StructureCompiler(load_toy("gpt2"))
    deadline = Deadline(0.001)
    time.sleep(0.002)
    with pytest.raises(MemberTimeoutError, match=r"within its timeout of 0\.001 s"):
        compiles.compile(SamplingParams(json_schema={"type": "array", "minItems": 1_000_000}), deadline=deadline)
    params = SamplingParams(json_schema={"type": "integer"})
    assert compiles.compile(params, deadline=Deadline(60)) is compiles.compile(params)


def test_after_structures_that_fail_a_good_one_is_compiled():
    compiles = StructureCompiler(load_toy("gpt2"))
    for bad in ({"regex": "("}, {"grammar": "start: <eos>"}, {"grammar": "start: start"}, {"json_schema": {"type": 5}}):
        with pytest.raises(GrammarError):
            compiles.compile(SamplingParams(**bad))
    assert compiles.compile(SamplingParams(regex="ab")).completion == b"ab"
