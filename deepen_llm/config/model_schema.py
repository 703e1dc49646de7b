"""The JSON schema of a pydantic class, of which the class reads every value that a model may write."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, final

from pydantic import BaseModel, EncodedStr, PydanticUserError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue


def read_model_schema(model: type[BaseModel]) -> dict[str, Any]:
    """As `model.model_json_schema()`, but no wider than the class: a Decimal is a number and no text.

    An address of the web has the format `http-url`, which `structure/formats.py` knows.

    Raises:
        ValueError: The class has a field without a JSON schema.
    """
    try:
        return model.model_json_schema(schema_generator=_ReadableJsonSchema)
    except PydanticUserError as error:
        raise ValueError(f"the class {model.__name__} must have a JSON schema: {error.message}") from error


@final
class _ReadableJsonSchema(GenerateJsonSchema):
    """Writes for a type only what it reads, where pydantic also writes what it might."""

    def decimal_schema(self, schema: Any) -> JsonSchemaValue:
        """A number of as many places as there may be; pydantic writes a text beside it, which could be any."""
        json_schema: JsonSchemaValue = {"type": "number"}
        json_schema |= {keyword: float(schema[name]) for name, keyword in _BOUNDS.items() if name in schema}
        num_digits, num_places = schema.get("max_digits"), schema.get("decimal_places")
        if num_digits is not None:
            num_places = min(num_digits // 2 if num_places is None else num_places, num_digits)
        num_whole = MAX_WHOLE_DIGITS if num_digits is None else num_digits - num_places
        limit = float(Decimal(10) ** num_whole - Decimal(10) ** -(num_places or 0))
        json_schema["minimum"] = max(json_schema.get("minimum", -limit), -limit)
        json_schema["maximum"] = min(json_schema.get("maximum", limit), limit)
        if num_places is not None:
            json_schema["multipleOf"] = float(Decimal(10) ** -num_places)
        return json_schema

    def fraction_schema(self, schema: Any) -> JsonSchemaValue:
        """A text; pydantic writes a number beside it, which could be too great."""
        del schema
        return {"type": "string", "format": "fraction"}

    def complex_schema(self, schema: Any) -> JsonSchemaValue:
        """A text of two decimal numbers; pydantic writes any text."""
        del schema
        return {"type": "string", "pattern": rf"^-?{_DECIMAL}[+-]{_DECIMAL}j$"}

    def function_after_schema(self, schema: Any) -> JsonSchemaValue:
        """Base64 whose content is text is that of ASCII."""
        json_schema = super().function_after_schema(schema)
        is_text = isinstance(getattr(schema["function"]["function"], "__self__", None), EncodedStr)
        return {**json_schema, "pattern": _BASE64_OF_ASCII} if is_text else json_schema

    def url_schema(self, schema: Any) -> JsonSchemaValue:
        """An address of the schemes that the type allows."""
        return _with_schemes(super().url_schema(schema), schema.get("allowed_schemes"))

    def multi_host_url_schema(self, schema: Any) -> JsonSchemaValue:
        """An address of the schemes that the type allows."""
        return _with_schemes(super().multi_host_url_schema(schema), schema.get("allowed_schemes"))


def _with_schemes(json_schema: JsonSchemaValue, schemes: list[str] | None) -> JsonSchemaValue:
    if not schemes:
        return json_schema
    if set(schemes) == {"http", "https"}:
        return {**json_schema, "format": "http-url"}
    named = "|".join(re.escape(scheme) for scheme in schemes)
    return {
        "type": "string",
        "pattern": rf"^({named})://[a-z]{{1,40}}(\.[a-z]{{2,20}}){{0,3}}(/[A-Za-z0-9._-]{{1,80}}){{1,9}}$",
    }


MAX_WHOLE_DIGITS = 15
"""Digits before the point of a Decimal that has no limit of its own: as many as a float has."""

_DECIMAL = r"[0-9]{1,9}(\.[0-9]{1,9})?"
_BASE64_OF_ASCII = (
    "^([A-Za-f][A-HQ-Xg-nw-z0-3][ABEFIJMNQRUVYZcdghklopstwx014589][A-Za-z0-9])*"
    "([A-Za-f]([AQgw]=|[A-HQ-Xg-nw-z0-3][AEIMQUYcgkosw048])=)?$"
)
"""Without the characters in which the alphabets of base64 differ."""

_BOUNDS = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
    "multiple_of": "multipleOf",
}
"""Pydantic's words for JSON schema's."""
