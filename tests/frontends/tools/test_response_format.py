"""Every form of a response format, and what is none."""

import pytest

from deepen_llm.errors import ConfigError
from deepen_llm.frontends.tools import read_response_format

SCHEMA = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}


def test_a_schema_is_read_and_told():
    schema, words = read_response_format({"type": "json_schema", "json_schema": {"name": "point", "schema": SCHEMA}})
    assert schema == SCHEMA
    assert words == 'Answer with JSON only: an object with "x" (a whole number).'


def test_any_object_and_any_text_are_told_nothing():
    assert read_response_format({"type": "json_object"}) == ({"type": "object"}, "")
    assert read_response_format({"type": "text"}) == (None, "")


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"type": "xml"},
        {"type": "json_schema"},
        {"type": "json_schema", "json_schema": SCHEMA},
        {"type": "json_schema", "json_schema": {"schema": "x"}},
        "json",
    ],
)
def test_other_forms_are_refused(given):
    with pytest.raises(ConfigError, match=r'response_format must be \{"type": "text"\}, .*; got'):
        read_response_format(given)
