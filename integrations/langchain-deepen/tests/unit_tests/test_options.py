"""Options as LangChain gives them; what they mean together is tested with the core."""

import pytest
from pydantic import BaseModel
from pydantic.v1 import BaseModel as BaseModelV1
from typing_extensions import TypedDict

from deepen_llm.errors import ConfigError
from langchain_deepen.options import as_json_schema, read_call


def test_a_model_is_an_option_of_a_call_and_what_langchain_reads_is_left_out():
    read = read_call({"model": "starter", "stream": True, "max_new_tokens": 3, "top_k": None}, owner="DeepenLLM")
    assert read == {"model": "starter", "max_tokens": 3}


class Point(BaseModel):
    x: int


class PointV1(BaseModelV1):
    x: int


class PointDict(TypedDict):
    x: int


@pytest.mark.parametrize("schema", [Point, PointV1, PointDict, Point.model_json_schema()])
def test_every_kind_of_schema_is_read(schema):
    read = read_call({"json_schema": schema}, owner="DeepenLLM")["json_schema"]
    assert read["properties"]["x"]["type"] == "integer"


def test_a_class_without_a_schema_is_refused():
    with pytest.raises(
        ConfigError, match="a JSON schema must come from a pydantic model, a TypedDict or a dict; got <class 'int'>"
    ):
        as_json_schema(int)
