"""Writes docs/configuration.md: every setting with its type, its default and what it does, from the classes themselves.

python docs/generate_configuration.py
"""

from __future__ import annotations

import types
import typing
from pathlib import Path
from typing import Any

from deepen_llm.config import EnsembleConfig, FusionConfig, MemberConfig, SamplingParams, Settings, WeightingConfig
from deepen_llm.config.settings import Variants

PAGE = Path(__file__).parent / "configuration.md"

HEAD = """# Every setting

Made from the code by `python docs/generate_configuration.py`; a test keeps it current. A setting that a kind does not
have is refused by name, and so is one that means nothing beside another; what does not exist is refused with the
nearest name that does. The same names hold in Python, in `ensemble.yaml` and, for `SamplingParams`, in LangChain and
LlamaIndex (where `max_new_tokens` is `max_tokens` and `timeout_s` is `timeout`).

```yaml
members:
  - org/main-model
  - {model: org/other-model, dtype: bfloat16}
weights: [0.6, 0.4]          # or a word: prompt
fusion: {method: text, mean: geometric}
```
"""


def render() -> str:
    """The whole page."""
    parts = [
        HEAD,
        section("An ensemble: `EnsembleConfig`", EnsembleConfig),
        *variants("A member: `MemberConfig`", MemberConfig),
        *variants("Weights of each request: `WeightingConfig`", WeightingConfig),
        *variants("Fusion: `FusionConfig`", FusionConfig),
        section("One answer: `SamplingParams`", SamplingParams),
    ]
    return "\n".join(parts)


def variants(title: str, base: type[Variants]) -> list[str]:
    """The settings of all kinds, then those of each kind."""
    field = base.variant_field
    parts = [section(title, base, {field: " | ".join(f'"{kind}"' for kind in base.variants)})]
    for kind in base.variants:
        own = {name for name in base.variant(kind).model_fields if name not in base.model_fields}
        if own:
            parts.append(section(f'With `{field}="{kind}"`', base.variant(kind), names=own, level=3))
    return parts


def section(
    title: str,
    settings: type[Settings],
    kinds: dict[str, str] | None = None,
    *,
    names: set[str] | None = None,
    level: int = 2,
) -> str:
    """One class as a table; `names` are those to list."""
    lines = [f"{'#' * level} {title}", "", "| setting | values | default | |", "| --- | --- | --- | --- |"]
    for name, field in settings.model_fields.items():
        if names is not None and name not in names:
            continue
        values = (kinds or {}).get(name) or show_type(field.annotation)
        default = "" if field.is_required() else show_default(field.get_default(call_default_factory=True))
        text = " ".join((field.description or "").split())
        if name in settings.applies:
            other, value = settings.applies[name]
            text += f" Only with `{other}={value!r}`."
        lines.append(f"| `{name}` | {escape(values)} | {default} | {escape(text)} |")
    return "\n".join([*lines, ""])


def show_default(value: Any) -> str:
    """A default as one would type it."""
    return f"`{type(value).__name__}`" if isinstance(value, Settings) else f"`{value!r}`"


def show_type(kind: Any) -> str:
    """A type in words that one reads in Python."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return show_type(arguments[0])
    if origin is typing.Literal:
        return " | ".join(f'"{value}"' for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " | ".join(show_type(argument) for argument in arguments)
    if origin is not None:
        inside = ", ".join("..." if argument is Ellipsis else show_type(argument) for argument in arguments)
        return f"{origin.__name__}[{inside}]"
    return "None" if kind is type(None) else getattr(kind, "__name__", str(kind))


def escape(text: str) -> str:
    """Text for a cell of a table."""
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
