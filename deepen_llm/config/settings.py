"""What every configuration class is made of: frozen, strict about names, errors that say what to type."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any, ClassVar, Self, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializationInfo,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic.functional_validators import ModelWrapValidatorHandler

from deepen_llm.errors import ConfigError, quote

MAX_PROBLEMS = 20
"""The most problems of one construction that are told."""


class Settings(BaseModel):
    """Base of every configuration class."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        arbitrary_types_allowed=True,
        protected_namespaces=(),
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )

    applies: ClassVar[Mapping[str, tuple[str, Any]]] = {}
    """Settings that mean something only where another one has a certain value: `{name: (other name, value)}`."""

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise self._explain(error) from error

    @model_validator(mode="wrap")
    @classmethod
    def _read(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """A mapping in place of an instance, as it comes from a file, may have any keys."""
        return handler(named(value, cls.title()) if isinstance(value, dict) else value)

    @model_validator(mode="after")
    def _check_applies(self) -> Self:
        for name, (other, value) in self.applies.items():
            is_default = getattr(self, name) == type(self).model_fields[name].get_default()
            if not is_default and getattr(self, other) != value:
                raise ValueError(
                    f"{name}={quote(getattr(self, name))} means nothing with {other}={getattr(self, other)!r}: leave "
                    f"it out, or take {other}={value!r}"
                )
        return self

    def replace(self, **changes: Any) -> Self:
        """A copy with some settings changed, validated anew. What was set and no longer applies is left out."""
        kept = {name: getattr(self, name) for name in self.model_fields_set}
        in_force = {**{name: getattr(self, name) for name in type(self).model_fields}, **changes}
        for name, (other, value) in self.applies.items():
            if in_force[other] != value:
                kept.pop(name, None)
        return type(self)(**{**kept, **changes})

    @classmethod
    def _explain(cls, error: ValidationError) -> ConfigError:
        """All problems of one construction: which setting, what must hold, what came."""
        texts, problems = [], []
        for problem in error.errors(include_url=False)[:MAX_PROBLEMS]:
            where = ".".join(str(part) for part in problem["loc"])
            if problem["type"] == "extra_forbidden":
                texts.append(cls.explain_unknown(where))
                continue
            text = problem["msg"].removeprefix("Value error, ")
            # An own error from within has said what came.
            if where and not isinstance(problem.get("ctx", {}).get("error"), ConfigError):
                text = f"{text}; got {quote(problem['input'])}"
            problems.append((where, text))
            texts.append(f"{cls.title()}.{where}: {text}" if where else f"{cls.title()}: {text}")
        if error.error_count() > MAX_PROBLEMS:
            texts.append(f"and {error.error_count() - MAX_PROBLEMS} more")
        explained = ConfigError("; ".join(texts))
        explained.problems = tuple(problems)
        return explained

    @classmethod
    def explain_unknown(cls, name: str) -> str:
        """What to say of a setting that the class does not have."""
        return describe_unknown(name, cls.model_fields, owner=cls.title(), kind="setting")

    @classmethod
    def title(cls) -> str:
        """What users call the class."""
        return cls.__name__


class Variants(Settings):
    """Base of settings of which there are several kinds: a class for each, named by one field.

    Constructing the class that lists the kinds gives an instance of the kind that is named, so that only what applies
    to it can be typed: `FusionConfig(method="text", mean="geometric")` is a `TextConfig`.
    """

    variant_field: ClassVar[str]
    """The field that names the kind."""
    variants: ClassVar[Mapping[str, str]]
    """Every kind with its class as "module:Class", imported when it is first asked for."""

    def __new__(cls, **values: Any) -> Self:
        """An instance of the kind that is named."""
        if "variants" in cls.__dict__:
            cls = cls.variant(cls.choose_variant(values))
        return super().__new__(cls)

    @classmethod
    def choose_variant(cls, values: Mapping[str, Any]) -> Any:
        """The kind that settings name, or are of where they name none."""
        return values.get(cls.variant_field, cls.model_fields[cls.variant_field].default)

    @classmethod
    def variant(cls, name: Any) -> type[Self]:
        """The class of a kind.

        Raises:
            ConfigError: There is no such kind; it lists those that there are.
        """
        place = cls.variants.get(name) if isinstance(name, str) else None
        if place is None:
            known = ", ".join(map(repr, cls.variants))
            raise ConfigError(f"{_base(cls).__name__}.{cls.variant_field} must be one of {known}; got {quote(name)}")
        module, _, attribute = place.partition(":")
        return cast("type[Self]", getattr(import_module(module), attribute))

    @model_validator(mode="wrap")
    @classmethod
    def _read(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """A mapping, as it comes from a file, is of the kind that it names."""
        if not isinstance(value, dict):
            return handler(value)
        named_values = named(value, cls.title())
        return cls(**named_values) if "variants" in cls.__dict__ else handler(named_values)

    @model_serializer(mode="plain")
    def _dump(self, info: SerializationInfo) -> dict[str, object]:
        """All settings of the kind but secrets, also where the field that holds it says no more than the base class."""
        names = [name for name, field in type(self).model_fields.items() if not field.exclude]
        names = [name for name in names if not info.exclude_unset or name in self.model_fields_set]
        return {name: getattr(self, name) for name in names}

    def replace(self, **changes: Any) -> Self:
        """A copy with some settings changed; of another kind, it keeps what both kinds have."""
        base = _base(type(self))
        if changes.get(self.variant_field, getattr(self, self.variant_field)) == getattr(self, self.variant_field):
            return super().replace(**changes)
        target = base.variant(changes[self.variant_field])
        kept = {name: getattr(self, name) for name in self.model_fields_set if name in target.model_fields}
        return cast(Self, base(**{**kept, **changes}))

    @classmethod
    def explain_unknown(cls, name: str) -> str:
        """Names the kinds that have the setting, where some have."""
        base, field = _base(cls), cls.variant_field
        own = cls.model_fields[field].default
        owners = [kind for kind in base.variants if name in base.variant(kind).model_fields]
        owner = f"{base.__name__}({field}={own!r})"
        if owners:
            names = " or ".join(map(repr, owners))
            return f"{owner} has no setting {quote(name)}, which belongs to {field}={names}: leave it out"
        return describe_unknown(name, cls.model_fields, owner=owner, kind="setting")

    @classmethod
    def title(cls) -> str:
        """The name of the class that lists the kinds: of the others users need not know."""
        return _base(cls).__name__


def _base(cls: type[Variants]) -> type[Variants]:
    """The class that lists the kinds."""
    return next(base for base in cls.__mro__ if "variants" in base.__dict__)


def named(values: Mapping[Any, Any], owner: str) -> dict[str, Any]:
    """A mapping as it comes from a file, whose keys name settings of `owner`.

    Raises:
        ConfigError: A key that is no word, such as a number or a date.
    """
    if strange := [key for key in values if not isinstance(key, str)]:
        raise ConfigError(f"the settings of {owner} are called by words; got the key {quote(strange[0])}: write a name")
    return dict(values)


def describe_unknown(name: str, known: Iterable[str], *, owner: str, kind: str) -> str:
    """What to say of a name that is not among the known ones: the nearest of them, or all."""
    names = sorted(known)
    near = difflib.get_close_matches(name.rpartition(".")[2], names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known {kind}s: {', '.join(names)}"
    return f"{owner} has no {kind} {quote(name)}: {hint}"
