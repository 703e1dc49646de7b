"""Objects from the text of an answer, whole and on its way."""

from __future__ import annotations

import pytest
from pydantic import AliasChoices, BaseModel, Field, RootModel, ValidationError, field_validator

from deepen_llm.errors import ConfigError
from llama_index.llms.deepen.objects import PartialReader, check_whole


class Lamp(BaseModel):
    owner: str
    colours: list[str]

    @field_validator("owner")
    @classmethod
    def _no_nobody(cls, owner):
        if owner == "nobody":
            raise ValueError("somebody must own it")
        return owner


def test_fields_appear_as_their_text_comes_and_nothing_comes_twice():
    reader, text = PartialReader(Lamp), '{"owner": "Orin", "colours": ["green"]}'
    partials = [reader.read(text[:end]) for end in (0, 1, 5, 13, 13, 16, 33, len(text))]
    seen = [partial and (partial.owner, partial.colours) for partial in partials]
    assert seen == [
        None,
        (None, None),
        None,
        ("Or", None),
        None,
        ("Orin", None),
        ("Orin", ["gr"]),
        ("Orin", ["green"]),
    ]
    assert reader.read_whole(text) == Lamp(owner="Orin", colours=["green"])


class Aliased(BaseModel):
    nm: str = Field(alias="name")
    number: int = Field(validation_alias=AliasChoices("no", "num"), serialization_alias="count")


def test_fields_are_known_by_their_aliases_on_the_way_too():
    reader = PartialReader(Aliased)
    partial = reader.read('{"name": "Or')
    assert (partial.nm, partial.number, partial.model_extra) == ("Or", None, {})
    assert partial.model_dump(by_alias=True) == {"name": "Or", "count": None}
    assert reader.read('{"name": "Orin", "no": 3').number == 3
    assert reader.read_whole('{"name": "Orin", "no": 3}').nm == "Orin"


def test_an_object_without_fields_comes_only_whole():
    class Names(RootModel[list[str]]):
        pass

    reader = PartialReader(Names)
    assert reader.read('["Or') is None
    assert reader.read_whole('["Orin"]').root == ["Orin"]


def test_a_validator_of_the_class_has_the_last_word():
    with pytest.raises(ValidationError, match="somebody must own it"):
        PartialReader(Lamp).read_whole('{"owner": "nobody", "colours": []}')


def test_an_answer_that_was_cut_names_the_limit():
    with pytest.raises(
        ConfigError, match=r"max_tokens=5 .*finish_reason 'length'.* the Lamp was whole: raise max_tokens"
    ):
        check_whole("Lamp", {"finish_reason": "length"}, 5)
    check_whole("Lamp", {"finish_reason": "stop"}, 5)
    check_whole("Lamp", None, 5)
