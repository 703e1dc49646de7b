"""What LlamaIndex's parsers read, as schemas: an answer of the schema is read by the parser."""

from __future__ import annotations

import json

from llama_index.core.output_parsers import PydanticOutputParser
from llama_index.core.output_parsers.selection import SelectionOutputParser
from llama_index.core.prompts import PromptTemplate
from llama_index.core.prompts.prompt_type import PromptType
from llama_index.core.question_gen.output_parser import SubQuestionOutputParser
from llama_index.core.question_gen.prompts import build_tools_text
from llama_index.core.tools import ToolMetadata
from pydantic import BaseModel

from llama_index.llms.deepen.parsers import schema_for

TOOLS = [ToolMetadata(description="Lamps.", name="lamps"), ToolMetadata(description="Boats.", name="boats")]
PLAIN = PromptTemplate("{query_str}")
SINGLE = PromptTemplate("{query_str}", prompt_type=PromptType.SINGLE_SELECT)


class Lamp(BaseModel):
    colour: str


class OwnParser(SelectionOutputParser):
    """Reads something else."""


def test_a_pydantic_parser_reads_its_class():
    assert schema_for(PydanticOutputParser(Lamp), PLAIN, {}) == Lamp.model_json_schema()


def test_one_selection_is_one_and_several_are_as_many_as_the_prompt_allows():
    parser = SelectionOutputParser()
    assert schema_for(parser, SINGLE, {"num_choices": 4})["maxItems"] == 1
    several = schema_for(parser, PLAIN, {"num_choices": 4, "max_outputs": 2})
    assert (several["maxItems"], several["items"]["properties"]["choice"]["maximum"]) == (2, 4)
    answers = parser.parse('[{"choice": 2, "reason": "It is a [lamp]."}]').parsed_output
    assert [(answer.choice, answer.reason) for answer in answers] == [(2, "It is a [lamp].")]


def test_sub_questions_go_to_tools_that_there_are():
    schema = schema_for(SubQuestionOutputParser(), PLAIN, {"tools_str": build_tools_text(TOOLS)})
    question = schema["properties"]["items"]["items"]
    assert question["properties"]["tool_name"] == {"enum": ["lamps", "boats"]}
    answer = json.dumps({"items": [{"sub_question": "Which [colour]?", "tool_name": "lamps"}]})
    questions = SubQuestionOutputParser().parse(answer).parsed_output
    assert [(question.sub_question, question.tool_name) for question in questions] == [("Which [colour]?", "lamps")]


def test_sub_questions_of_a_prompt_without_tools_name_any():
    schema = schema_for(SubQuestionOutputParser(), PLAIN, {})
    assert schema["properties"]["items"]["items"]["properties"]["tool_name"]["type"] == "string"


def test_a_sub_question_has_no_fence_by_which_the_parser_would_cut_it():
    schema = schema_for(SubQuestionOutputParser(), PLAIN, {"tools_str": build_tools_text(TOOLS)})
    assert schema["properties"]["items"]["items"]["properties"]["sub_question"]["pattern"] == "^[^`]*$"


def test_a_parser_that_is_not_known_leaves_the_answer_free():
    assert schema_for(None, PLAIN, {}) is None
    assert schema_for(OwnParser(), PLAIN, {"num_choices": 4}) is None
    assert schema_for(SelectionOutputParser(), PLAIN, {}) is None
