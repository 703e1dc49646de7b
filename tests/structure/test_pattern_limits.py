"""How large a regular expression may be."""

import pytest

from deepen_llm import SamplingParams
from deepen_llm.errors import GrammarError
from deepen_llm.structure import check_structure
from deepen_llm.structure.pattern_limits import MAX_LITERAL, MAX_REPEATS, check_pattern


def test_what_people_write_passes():
    for pattern in (
        r"\d{4}-\d{2}",
        "a{3,}",
        "a{,5}",
        rf"a{{{MAX_REPEATS}}}",
        "x" * MAX_LITERAL,
        r"\x{1F600}",
        r"\{99999\}",
    ):
        check_pattern(pattern, "it")


def test_a_long_one_is_refused_with_its_length():
    with pytest.raises(GrammarError, match=r"^it has at most 20,000 characters; got 20,001: make it shorter"):
        check_pattern("x" * (MAX_LITERAL + 1), "it")


@pytest.mark.parametrize("repeat", ["{10001}", "{1,999999999}", "{99999999999999999999999999}", "{ 20000 , }"])
def test_a_great_number_of_repeats_is_refused(repeat):
    with pytest.raises(GrammarError, match="repeats a part at most 10,000 times; got "):
        check_pattern(f"(ab){repeat}", "it")


@pytest.mark.parametrize(
    "regex",
    [
        "(" * 20_000,
        "(" * 5000 + "a" + ")" * 5000,
        "|".join(f"w{n}" for n in range(100_000)),
        "(a|b|ab){1000000}",
    ],
)
def test_a_regular_expression_that_would_explode_is_a_grammar_error(regex):
    with pytest.raises(GrammarError) as caught:
        check_structure(SamplingParams(regex=regex))
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("regex", ["(" * 9 + "a" + "){9999}" * 9, "a{1000}{1000}{1000}"])
def test_repeats_of_repeats_are_followed_without_being_written_out(regex):
    check_structure(SamplingParams(regex=regex))
