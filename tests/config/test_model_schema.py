"""The JSON schema of a pydantic class is no wider than the class."""

from decimal import Decimal
from fractions import Fraction
from typing import Annotated

import pytest
from pydantic import Base64Str, BaseModel, Field, FtpUrl, HttpUrl, create_model

from deepen_llm.config.model_schema import read_model_schema
from deepen_llm.errors import ConfigError


def schema_of(kind):
    schema = read_model_schema(create_model("Answer", x=(kind, ...)))["properties"]["x"]
    return {key: value for key, value in schema.items() if key != "title"}


def test_what_pydantic_describes_well_stays_as_it_is():
    class Pet(BaseModel):
        """An animal."""

        name: str = Field(min_length=1, description="what it is called")
        age: int | None = None

    assert read_model_schema(Pet) == Pet.model_json_schema()


@pytest.mark.parametrize(
    ("kind", "schema"),
    [
        (Decimal, {"type": "number", "minimum": -999999999999999.0, "maximum": 999999999999999.0}),
        (
            Annotated[Decimal, Field(max_digits=4, decimal_places=1, ge=0)],
            {"type": "number", "minimum": 0.0, "maximum": 999.9, "multipleOf": 0.1},
        ),
        (Fraction, {"type": "string", "format": "fraction"}),
        (HttpUrl, {"type": "string", "format": "http-url", "minLength": 1, "maxLength": 2083}),
    ],
)
def test_what_pydantic_describes_too_widely_is_narrowed(kind, schema):
    assert schema_of(kind) == schema


def test_texts_that_a_class_reads_in_its_own_way_have_a_pattern():
    assert schema_of(FtpUrl)["pattern"].startswith("^(ftp)://")
    assert "pattern" in schema_of(Base64Str) and "pattern" in schema_of(complex)


def test_a_field_without_a_schema_is_named():
    with pytest.raises(ConfigError, match="the class Answer must have a JSON schema: "):
        read_model_schema(create_model("Answer", x=(type(len), ...), __config__={"arbitrary_types_allowed": True}))
