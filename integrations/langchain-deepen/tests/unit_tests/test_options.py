"""Options: their names, their aliases, and what is refused."""

import pytest
from pydantic import BaseModel
from pydantic.v1 import BaseModel as BaseModelV1
from typing_extensions import TypedDict

from deepen_llm.config import SamplingParams
from deepen_llm.errors import ConfigError
from langchain_deepen.options import OPTION_NAMES, as_json_schema, make_params, put_nearer, read_options


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
    with pytest.raises(ConfigError, match=r"DeepenLLM has no option of one call 'xyz': known: grammar, .*, trace"):
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


class Point(BaseModel):
    x: int


class PointV1(BaseModelV1):
    x: int


class PointDict(TypedDict):
    x: int


@pytest.mark.parametrize("schema", [Point, PointV1, PointDict, Point.model_json_schema()])
def test_every_kind_of_schema_is_read(schema):
    read = read_options({"json_schema": schema}, owner="DeepenLLM")["json_schema"]
    assert read["properties"]["x"]["type"] == "integer"
    assert make_params({"json_schema": read}).json_schema == read


def test_a_class_without_a_schema_is_refused():
    with pytest.raises(
        ConfigError, match="a schema must be a pydantic model, a TypedDict or a dict; got <class 'int'>"
    ):
        as_json_schema(int)


@pytest.mark.parametrize("timeout", [0, -1, "soon", True])
def test_a_timeout_that_is_none_is_refused(timeout):
    with pytest.raises(ConfigError, match="timeout must be seconds above 0; got"):
        read_options({"timeout": timeout}, owner="DeepenLLM")


def test_a_structure_takes_the_place_of_one_further_away():
    assert put_nearer({"json_schema": {}}, {"regex": "a"}) == {"json_schema": None, "regex": "a", "grammar": None}


def test_stop_of_a_call_contradicts_a_structure_and_that_of_the_constructor_does_not():
    with pytest.raises(
        ConfigError, match=r"an answer of a given regex must not be cut; got stop=\['x'\] with it: leave"
    ):
        put_nearer({"regex": "a"}, {"stop": ["x"]})
    assert put_nearer({"stop": ["x"]}, {"regex": "a"})["regex"] == "a"
    assert put_nearer({"regex": "a"}, {"stop": []}) == {"stop": []}
    assert make_params({"regex": "a", "stop": ["x"]}).stop == ()


def test_greedy_decoding_of_a_call_takes_away_the_constructors_top_p():
    assert put_nearer({"temperature": 0.7, "top_p": 0.9}, {"temperature": 0}) == {"temperature": 0, "top_p": None}
    assert put_nearer({"temperature": 0.0}, {"temperature": 1.0, "top_p": 0.9}) == {"temperature": 1.0, "top_p": 0.9}
    with pytest.raises(ConfigError, match=r"temperature=0 takes the best token, so top_p=0\.9 can never matter"):
        put_nearer({"temperature": 0.0}, {"top_p": 0.9})
