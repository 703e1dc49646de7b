"""Options as frameworks give them: their names, what a call changes, and what is refused."""

from __future__ import annotations

import pytest

from deepen_llm.config import SamplingParams
from deepen_llm.errors import ConfigError
from deepen_llm.frontends.options import OPTION_NAMES, default_of, make_params, put_nearer, read_options


def read(**options):
    return read_options(options, owner="DeepenLLM")


def test_the_options_are_all_that_the_engine_takes():
    engine_names = {{"max_tokens": "max_new_tokens", "timeout": "timeout_s"}.get(name, name) for name in OPTION_NAMES}
    assert engine_names == set(SamplingParams.model_fields)


def test_defaults_are_the_engines():
    assert default_of("max_tokens") == default_of("max_new_tokens") == SamplingParams().max_new_tokens
    assert (default_of("stop"), default_of("timeout")) == ((), None)


def test_none_means_not_given_but_where_it_is_a_value():
    assert read(temperature=None, stop=None, timeout=None, min_p=0.1) == {"min_p": 0.1}
    assert read(seed=None, logprobs=None) == {"seed": None, "logprobs": None}
    assert make_params({"temperature": None, "stop": None, "seed": None}) == SamplingParams()


def test_the_engines_names_are_the_same_options():
    assert read(max_new_tokens=3, timeout_s=2.0) == {"max_tokens": 3, "timeout": 2.0}
    assert read(max_new_tokens=3, max_tokens=3) == {"max_tokens": 3}
    params = make_params({"max_tokens": 3, "timeout": 2.0})
    assert (params.max_new_tokens, params.timeout_s) == (3, 2.0)


def test_an_unknown_option_is_refused_with_the_nearest_or_all_known_ones():
    with pytest.raises(ConfigError, match=r"DeepenLLM has no option 'temprature': did you mean 'temperature'\?$"):
        read(temprature=1)
    with pytest.raises(
        ConfigError, match=r"DeepenLLM has no option 'xyz': known options: frequency_penalty, grammar, .*, trace"
    ):
        read(xyz=1)
    with pytest.raises(ConfigError, match=r"known options: .*, model, "):
        read_options({"xyz": 1}, owner="DeepenLLM", others=("model",))


def test_contradictions_are_refused():
    with pytest.raises(ConfigError, match="max_tokens and max_new_tokens are one option; got 3 and 4: give one"):
        read(max_new_tokens=4, max_tokens=3)
    with pytest.raises(ConfigError, match="timeout and timeout_s are one option; got 1 and 2: give one"):
        read(timeout_s=2, timeout=1)
    with pytest.raises(ConfigError, match=r"temperature=0 takes the best token, so top_p=0\.9 can never matter"):
        read(temperature=0, top_p=0.9)
    assert read(temperature=0, top_p=1) == {"temperature": 0, "top_p": 1}


@pytest.mark.parametrize(("given", "meant"), [(True, 0), (False, None), (0, 0), (3, 3)])
def test_logprobs_may_be_a_switch_or_a_number(given, meant):
    assert make_params({"logprobs": given}).logprobs == meant
    assert type(make_params({"logprobs": given}).logprobs) is type(meant)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeout": 0}, r"^timeout: Input should be greater than 0; got 0$"),
        ({"max_tokens": 0}, r"^max_tokens: Input should be greater than or equal to 1; got 0$"),
        ({"max_tokens": 0, "top_k": -1}, r"^max_tokens: .*; got 0; top_k: .*; got -1$"),
        ({"stop": [3]}, r"^stop\.0: Input should be a valid string; got 3$"),
        ({"stop": [""]}, r"^stop strings must not be empty"),
    ],
)
def test_what_is_out_of_range_is_called_by_the_name_that_was_given(options, message):
    with pytest.raises(ConfigError, match=message):
        make_params(options)


def test_stop_may_be_one_string():
    assert make_params({"stop": "###"}).stop == ("###",)


def test_a_structure_takes_the_place_of_one_further_away_and_ends_the_answer():
    changes = {"json_schema": None, "regex": "a", "grammar": None, "ignore_eos": None, "min_new_tokens": None}
    assert put_nearer({"json_schema": {}, "ignore_eos": True, "min_new_tokens": 2}, {"regex": "a"}) == changes


def test_stop_of_a_call_contradicts_a_structure_and_that_of_the_model_does_not():
    with pytest.raises(ConfigError, match=r"of a given regex must not be cut; got stop=\['x'\] with it: leave"):
        put_nearer({"regex": "a"}, {"stop": ["x"]})
    with pytest.raises(ConfigError, match=r"of a given regex must not be cut; got stop=\['x'\] with it: leave"):
        put_nearer({}, {"regex": "a", "stop": ["x"]})
    assert put_nearer({"stop": ["x"]}, {"regex": "a"})["regex"] == "a"
    assert put_nearer({"regex": "a"}, {"stop": []}) == {"stop": []}
    assert make_params({"regex": "a", "stop": ["x"]}).stop == ()
    with pytest.raises(ConfigError, match=r"given regex must not be cut; got stop_token_ids=\[5\]"):
        put_nearer({}, {"regex": "a", "stop_token_ids": [5]})
    assert make_params({"regex": "a", "stop_token_ids": [5]}).stop_token_ids == ()


def test_greedy_decoding_of_a_call_takes_away_the_models_top_p_and_n():
    greedy = {"temperature": 0, "top_p": None, "n": None}
    assert put_nearer({"temperature": 0.7, "top_p": 0.9, "n": 3}, {"temperature": 0}) == greedy
    assert put_nearer({"temperature": 0.0}, {"temperature": 1.0, "top_p": 0.9}) == {"temperature": 1.0, "top_p": 0.9}
    with pytest.raises(ConfigError, match=r"temperature=0 takes the best token, so top_p=0\.9 can never matter"):
        put_nearer({"temperature": 0.0}, {"top_p": 0.9})
