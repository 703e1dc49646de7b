"""Structured output: schemas of every kind that LangChain knows, and the parsers of what the models answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from operator import itemgetter
from typing import Any

from langchain_core.exceptions import OutputParserException
from langchain_core.language_models.base import LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.output_parsers import BaseOutputParser, JsonOutputParser, PydanticOutputParser
from langchain_core.output_parsers.openai_tools import JsonOutputKeyToolsParser, PydanticToolsParser
from langchain_core.runnables import Runnable, RunnableGenerator, RunnableMap, RunnablePassthrough
from langchain_core.utils.function_calling import convert_to_json_schema
from langchain_core.utils.pydantic import is_basemodel_subclass

from deepen_llm.errors import ConfigError
from deepen_llm.frontends.tools import explain_cut
from langchain_deepen.options import as_json_schema

SchemaSource = dict[str, Any] | type


def read_schema(schema: SchemaSource, *, strict: bool | None = None) -> dict[str, Any]:
    """The JSON schema of a pydantic model, a TypedDict, a function's description or a JSON schema.

    Args:
        schema: Where the schema comes from.
        strict: True makes every property required.

    Raises:
        ConfigError: Something that has no JSON schema.
    """
    is_function = isinstance(schema, dict) and ("parameters" in schema or "function" in schema)
    if not (strict or is_function):
        read = as_json_schema(schema)
    else:
        try:
            read = convert_to_json_schema(schema, strict=strict)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ConfigError(f"the schema must be a JSON schema with a title, or a class; got {schema!r}") from error
    if not isinstance(read, dict):
        raise ConfigError(f"the schema must be a pydantic model, a TypedDict or a dict; got {read!r}")
    return read


def response_format(schema: dict[str, Any] | None, *, is_told: bool = True) -> dict[str, Any]:
    """The option `response_format` for a schema; None is any JSON object.

    `is_told` says whether the models are told the schema in words, or only held to it.
    """
    if schema is None:
        return {"type": "json_object"}
    name = schema.get("title", "answer")
    return {"type": "json_schema", "json_schema": {"name": name, "schema": schema}, "is_told": is_told}


def json_parser(schema: SchemaSource | None) -> BaseOutputParser[Any]:
    """The parser of an answer that is JSON: into the pydantic class, or into a dictionary."""
    if isinstance(schema, type) and is_basemodel_subclass(schema):
        return PydanticOutputParser(pydantic_object=schema)
    return JsonOutputParser()


def call_parser(schema: SchemaSource, name: str) -> BaseOutputParser[Any]:
    """The parser of an answer that is a call of the tool that a schema was made into."""
    if isinstance(schema, type) and is_basemodel_subclass(schema):
        return PydanticToolsParser(tools=[schema], first_tool_only=True)
    return JsonOutputKeyToolsParser(key_name=name, first_tool_only=True)


def with_parser(
    model: Runnable[LanguageModelInput, AIMessage], parser: BaseOutputParser[Any], *, include_raw: bool
) -> Runnable[LanguageModelInput, Any]:
    """The model, and the parser behind it; with `include_raw`, a dictionary of raw, parsed and parsing_error."""
    checked: Runnable[BaseMessage, Any] = RunnableGenerator(_whole, _awhole, name="check_whole") | parser
    if not include_raw:
        return model | checked
    parsed = RunnablePassthrough.assign(parsed=itemgetter("raw") | checked, parsing_error=lambda _: None)
    failed = RunnablePassthrough.assign(parsed=lambda _: None)
    return RunnableMap(raw=model) | parsed.with_fallbacks([failed], exception_key="parsing_error")


def _whole(messages: Iterator[BaseMessage]) -> Iterator[BaseMessage]:
    """The messages or pieces of one as they are.

    Raises:
        OutputParserException: The answer was cut, and no parser should complete it.
    """
    for message in messages:
        _check_whole(message)
        yield message


async def _awhole(messages: AsyncIterator[BaseMessage]) -> AsyncIterator[BaseMessage]:
    """Async twin of `_whole`."""
    async for message in messages:
        _check_whole(message)
        yield message


def _check_whole(message: BaseMessage) -> None:
    if message.response_metadata.get("finish_reason") == "length":
        usage = getattr(message, "usage_metadata", None) or {}
        reason = explain_cut("its JSON", num_tokens=usage.get("output_tokens"))
        raise OutputParserException(reason, llm_output=message.text)
