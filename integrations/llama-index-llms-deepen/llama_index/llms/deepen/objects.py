"""From the JSON of an answer to pydantic objects: the whole one, and those of a stream on its way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar, final

from llama_index.core.bridge.pydantic import BaseModel
from llama_index.core.program.utils import FlexibleModel
from pydantic import Field, RootModel, create_model
from pydantic_core import from_json

from deepen_llm.errors import ConfigError
from deepen_llm.frontends.tools import explain_cut

Model = TypeVar("Model", bound=BaseModel)


def check_whole(what: str, raw: Any, max_tokens: int) -> None:
    """Refuse an answer that was cut.

    Args:
        what: What the answer must be.
        raw: The response's `raw`.
        max_tokens: The limit that the answer had.

    Raises:
        ConfigError: The answer ended with finish reason "length".
    """
    if isinstance(raw, Mapping) and raw.get("finish_reason") == "length":
        raise ConfigError(explain_cut(f"the {what}", max_tokens))


def _flexible(output_cls: type[BaseModel]) -> type[FlexibleModel]:
    """The class of the objects on their way: any field may be None, and each keeps its alias.

    LlamaIndex's own flexible class has no aliases, so values under an alias would not become the field.
    """
    fields: dict[str, Any] = {
        name: (
            Any | None,
            Field(default=None, validation_alias=field.validation_alias, serialization_alias=field.serialization_alias),
        )
        for name, field in output_cls.model_fields.items()
    }
    return create_model(f"Flexible{output_cls.__name__}", __base__=FlexibleModel, **fields)


@final
class PartialReader(Generic[Model]):
    """Reads the objects of one stream from its text so far."""

    def __init__(self, output_cls: type[Model]) -> None:
        self._output_cls = output_cls
        self._flexible_cls = _flexible(output_cls)
        self._is_root = issubclass(output_cls, RootModel)
        self._last: Any = None

    def read(self, text: str) -> FlexibleModel | None:
        """The fields that there are so far, the others None; None where nothing is new, or the object has no fields."""
        if self._is_root or not text:
            return None
        values = from_json(text, allow_partial="trailing-strings")
        if not isinstance(values, dict) or values == self._last:
            return None
        self._last = values
        return self._flexible_cls.model_validate(values)

    def read_whole(self, text: str) -> Model:
        """The object.

        Raises:
            pydantic.ValidationError: A validator of the class refuses values that its schema allows.
        """
        return self._output_cls.model_validate_json(text)
