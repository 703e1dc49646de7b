"""Options: their names, their aliases, and what is refused."""

import pytest

from deepen_llm.config import SamplingParams
from deepen_llm.errors import ConfigError
from langchain_deepen.options import OPTION_NAMES, make_params, read_options


def test_the_options_are_all_that_the_engine_takes():
    engine_names = {"max_new_tokens" if name == "max_tokens" else name for name in OPTION_NAMES}
    assert engine_names == set(SamplingParams.model_fields)


def test_none_means_not_given():
    assert read_options({"temperature": None, "seed": 1}, owner="DeepenLLM") == {"seed": 1}
    assert make_params({"temperature": None, "stop": None}) == SamplingParams()


def test_the_alias_is_the_same_option():
    assert read_options({"max_new_tokens": 3}, owner="DeepenLLM") == {"max_tokens": 3}
    assert read_options({"max_new_tokens": 3, "max_tokens": 3}, owner="DeepenLLM") == {"max_tokens": 3}
    assert make_params({"max_tokens": 3}).max_new_tokens == 3


def test_an_unknown_option_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"DeepenLLM has no option of one call 'xyz': known: ignore_eos, .*, trace"):
        read_options({"xyz": 1}, owner="DeepenLLM")


def test_contradictions_are_refused():
    with pytest.raises(ConfigError, match="max_tokens and max_new_tokens are one option; got 3 and 4: give one"):
        read_options({"max_new_tokens": 4, "max_tokens": 3}, owner="DeepenLLM")
    with pytest.raises(ConfigError, match=r"temperature=0 takes the best token, so top_p=0\.9 can never matter"):
        read_options({"temperature": 0, "top_p": 0.9}, owner="DeepenLLM")
    assert read_options({"temperature": 0, "top_p": 1}, owner="DeepenLLM") == {"temperature": 0, "top_p": 1}


@pytest.mark.parametrize(("given", "meant"), [(True, 0), (False, None), (0, 0), (3, 3)])
def test_logprobs_may_be_a_switch_or_a_number(given, meant):
    assert make_params({"logprobs": given}).logprobs == meant
    assert type(make_params({"logprobs": given}).logprobs) is type(meant)


def test_stop_may_be_one_string():
    assert make_params({"stop": "###"}).stop == ("###",)
