"""Arguments of other types are refused by their names."""

from __future__ import annotations

import pytest

from deepen_llm.config import SamplingParams
from deepen_llm.errors import ConfigError, PromptError
from deepen_llm.requests.arguments import check_pairs, check_params, check_prompts


def test_no_parameters_are_the_defaults_and_given_ones_are_taken_as_they_are():
    params = SamplingParams(max_new_tokens=3)
    assert check_params(params) is params and check_params(None) == SamplingParams()


@pytest.mark.parametrize(
    ("params", "described"), [({"max_new_tokens": 3}, "a dict"), (0, "a int"), ("", "a str"), ([], "a list")]
)
def test_other_parameters_are_refused_also_where_they_are_empty(params, described):
    with pytest.raises(ConfigError, match=rf"^params must be SamplingParams; got {described}: write SamplingParams\("):
        check_params(params)


def test_one_prompt_or_several_are_a_list():
    assert check_prompts("a") == ["a"] and check_prompts(("a", "b")) == ["a", "b"] and check_prompts([]) == []


@pytest.mark.parametrize(
    ("prompt", "described"), [(None, "None"), (b"", "a bytes"), ({"a": 1}, "a dict"), (iter("ab"), "a str_.*iterator")]
)
def test_what_is_no_text_is_no_prompt(prompt, described):
    with pytest.raises(PromptError, match=f"^the prompt must be a string or a list of strings; got {described}"):
        check_prompts(prompt)


def test_the_prompt_at_fault_is_told():
    with pytest.raises(PromptError, match=r"^prompt 1 must be a string; got int"):
        check_prompts(["a", 3])
    with pytest.raises(PromptError, match=r"^prompt 0 must be valid Unicode"):
        check_prompts(["\ud800"])


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (None, "got None"),
        ("ab", "got a str"),
        ([("a",)], "pair 0 is 1 values"),
        ([("a", "b"), "ab"], "pair 1 is a str"),
        ([None], "pair 0 is None"),
    ],
)
def test_what_is_no_list_of_pairs_is_refused(pairs, message):
    with pytest.raises(PromptError, match=rf"^pairs must be a list of \(context, continuation\); {message}$"):
        check_pairs(pairs, "context", "continuation")


def test_pairs_may_be_lists():
    assert check_pairs([["a", "b"]], "context", "continuation") == [["a", "b"]]
