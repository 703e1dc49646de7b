"""No router can be sent to a choice that does not exist."""

from __future__ import annotations

import pytest
from llama_index.core.base.base_selector import MultiSelection, SingleSelection
from llama_index.core.llms import ChatMessage
from llama_index.core.selectors.prompts import (
    DEFAULT_MULTI_PYD_SELECT_PROMPT_TMPL,
    DEFAULT_SINGLE_PYD_SELECT_PROMPT_TMPL,
)

from llama_index.llms.deepen.selections import answers_schema, limit_selection

CHOICE = {"type": "integer", "minimum": 1, "maximum": 3}


def _messages(template):
    text = template.format(num_choices=3, context_list="(1) a\n\n(2) b\n\n(3) c", query_str="?", max_outputs=3)
    return [ChatMessage(role="user", content=text), ChatMessage(role="assistant", content="yes")]


def test_a_single_selection_is_limited_to_the_choices_of_llama_indexs_prompt():
    parameters = SingleSelection.model_json_schema()
    limited = limit_selection(SingleSelection, parameters, _messages(DEFAULT_SINGLE_PYD_SELECT_PROMPT_TMPL))
    assert limited["properties"]["index"] == CHOICE
    assert parameters == SingleSelection.model_json_schema(), "the caller's schema was changed"


def test_several_selections_are_limited_and_at_least_one():
    parameters = MultiSelection.model_json_schema()
    limited = limit_selection(MultiSelection, parameters, _messages(DEFAULT_MULTI_PYD_SELECT_PROMPT_TMPL))
    assert limited["$defs"]["SingleSelection"]["properties"]["index"] == CHOICE
    selections = limited["properties"]["selections"]
    assert (selections["minItems"], selections["maxItems"]) == (1, 3)


@pytest.mark.parametrize("content", ["Choose one.", "(1 to many)"])
def test_a_prompt_that_tells_no_number_of_choices_limits_nothing(content):
    parameters = SingleSelection.model_json_schema()
    assert limit_selection(SingleSelection, parameters, [ChatMessage(role="user", content=content)]) == parameters


def test_other_tools_are_left_as_they_are():
    parameters = {"type": "object", "properties": {"index": {"type": "integer"}}}
    messages = _messages(DEFAULT_SINGLE_PYD_SELECT_PROMPT_TMPL)
    assert limit_selection(None, parameters, messages) == parameters
    assert limit_selection(ChatMessage, parameters, messages) == parameters


def test_answers_are_between_one_and_as_many_as_are_wanted():
    schema = answers_schema(3, 2)
    assert (schema["minItems"], schema["maxItems"]) == (1, 2)
    assert schema["items"]["properties"]["choice"] == CHOICE
    assert answers_schema(3, 0)["maxItems"] == 1
