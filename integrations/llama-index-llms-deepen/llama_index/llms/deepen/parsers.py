"""What the output parsers of LlamaIndex's own prompts read, as JSON schemas, so that an answer can be decoded by it.

Selectors and question generators put a parser on their prompt, ask with `predict` and read the text. A prompt whose
parser is known here is answered in JSON that the parser can read, from any model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from llama_index.core.output_parsers import PydanticOutputParser
from llama_index.core.output_parsers.selection import SelectionOutputParser
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.prompts.prompt_type import PromptType
from llama_index.core.question_gen.output_parser import SubQuestionOutputParser
from llama_index.core.types import BaseOutputParser

from deepen_llm.config.model_schema import read_model_schema
from llama_index.llms.deepen.selections import answers_schema

_NO_FENCE = {"type": "string", "pattern": "^[^`]*$"}
"""Text without the backticks by which the parser would cut it."""


def schema_for(
    parser: BaseOutputParser | None, prompt: BasePromptTemplate, arguments: Mapping[str, Any]
) -> dict[str, Any] | None:
    """What an answer to `prompt`, filled in with `arguments`, must be for `parser`; None where that is not known."""
    if isinstance(parser, PydanticOutputParser):
        return read_model_schema(parser.output_cls)
    if type(parser) is SelectionOutputParser and "num_choices" in arguments:
        is_single = prompt.metadata.get("prompt_type") == PromptType.SINGLE_SELECT
        num_choices = int(arguments["num_choices"])
        return answers_schema(num_choices, 1 if is_single else int(arguments.get("max_outputs", num_choices)))
    if type(parser) is SubQuestionOutputParser:
        return _questions_schema(arguments.get("tools_str"))
    return None


def _questions_schema(tools: Any) -> dict[str, Any]:
    """`{"items": [{"sub_question", "tool_name"}, ...]}`; only tools that there are, where the prompt lists them."""
    names = list(json.loads(tools)) if isinstance(tools, str) else []
    question = {
        "type": "object",
        "properties": {"sub_question": _NO_FENCE, "tool_name": {"enum": names} if names else _NO_FENCE},
        "required": ["sub_question", "tool_name"],
        "additionalProperties": False,
    }
    items = {"type": "array", "items": question, "minItems": 1}
    return {"type": "object", "properties": {"items": items}, "required": ["items"], "additionalProperties": False}
