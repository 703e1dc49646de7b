"""The door to llguidance: whatever fails behind it is an own error, and what would stop the program passes."""

from __future__ import annotations

import pytest

from deepen_llm import SamplingParams
from deepen_llm.errors import GrammarError
from deepen_llm.structure import StructureCompiler, check_structure
from deepen_llm.structure.completion import ByteTokenizer
from deepen_llm.structure.matcher import MAX_MESSAGE, Matcher, call, shorten
from tests.vocabularies import load_toy


class Panic(BaseException):
    """As a Rust panic comes to Python: it is no Exception."""


def fail(error):
    raise error


@pytest.mark.parametrize(
    "error", [Panic("index out of range"), ValueError("no grammar"), MemoryError(), RecursionError()]
)
def test_whatever_the_library_raises_is_a_grammar_error(error):
    with pytest.raises(GrammarError) as caught:
        call(fail, error)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
def test_what_stops_the_program_passes(error):
    with pytest.raises(type(error)):
        call(fail, error)


@pytest.mark.parametrize("name", ["<|im_end|>", "<|endoftext|>", "<eos>"])
def test_a_special_token_at_which_the_library_panics_is_a_grammar_error(name):
    compiler = StructureCompiler(load_toy("gpt2"))
    with pytest.raises(GrammarError, match=r"an answer by a grammar is text, and has no special tokens; got '<"):
        compiler.compile(SamplingParams(grammar=f'start: "a" {name} | "b"'))
    with pytest.raises(GrammarError, match="panic"):
        Matcher(compiler._tokenizer, f'{{"grammars": [{{"lark_grammar": "start: {name}"}}]}}')


class FailingMatcher:
    """Panics in the middle of an answer."""

    def __init__(self, name: str) -> None:
        setattr(self, name, lambda *_: fail(Panic("called `Option::unwrap()` on a `None` value")))

    def is_error(self) -> bool:
        return False


@pytest.mark.parametrize(
    ("method", "name", "arguments"),
    [
        ("copy", "deep_copy", ()),
        ("is_accepting", "is_accepting", ()),
        ("is_stopped", "is_stopped", ()),
        ("bias", "compute_logit_bias", ()),
        ("bitmask", "compute_bitmask", ()),
        ("forced_bytes", "compute_ff_bytes", ()),
        ("forced_tokens", "compute_ff_tokens", ()),
        ("take", "consume_token", (1,)),
        ("take_all", "try_consume_tokens", ([1],)),
        ("drop", "rollback", (1,)),
    ],
)
def test_a_panic_in_the_middle_of_an_answer_is_a_grammar_error(method, name, arguments):
    matcher = Matcher.__new__(Matcher)
    matcher._matcher = FailingMatcher(name)
    with pytest.raises(GrammarError, match="unwrap"):
        getattr(matcher, method)(*arguments)


def test_an_error_of_the_grammar_says_what_to_do():
    with pytest.raises(GrammarError, match=r"cannot be followed on: .*: make it simpler"):
        Matcher(ByteTokenizer.load(), '{"grammars": [{"lark_grammar": "start: /a/"}]}').take(ord("b"))


def test_a_grammar_that_may_be_read_in_too_many_ways_ends_by_an_error():
    matcher = Matcher(ByteTokenizer.load(), '{"grammars": [{"lark_grammar": "start: a\\na: /x/ | a a | a a a"}]}')
    with pytest.raises(GrammarError, match="items; max is"):
        take_often(matcher)


def take_often(matcher: Matcher) -> None:
    for _ in range(2000):
        matcher.take(ord("x"))


def test_messages_are_cut_and_without_a_backtrace():
    assert shorten("first\n  second <backtrace> 1: core::panicking") == "first second"
    assert len(shorten("x" * 10**6)) < MAX_MESSAGE + 9
    assert shorten("é\x00\ud800") == "é\\x00\\ud800"
    with pytest.raises(GrammarError) as caught:
        check_structure(SamplingParams(grammar="start: " + "missing_" * 2000))
    assert len(str(caught.value)) < 600
