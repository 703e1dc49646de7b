"""HTML that cannot be broken by what it shows: whatever is not made here is escaped."""

from __future__ import annotations

import html
import re
from typing import final

VOID = frozenset({"meta", "br", "input"})
PICTURES = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {0x7F: 0x2421}
"""Control characters, which HTML does not allow, and the pictures of them that Unicode has."""
SURROGATES = dict.fromkeys(range(0xD800, 0xE000), 0xFFFD)
SHOWN = PICTURES | SURROGATES
NAME = re.compile(r"[a-z][A-Za-z0-9-]*")
"""Capitals are inside the names of SVG's attributes (`viewBox`) alone."""


@final
class Markup(str):
    """A piece of HTML made by `element`; any other string is text."""

    __slots__ = ()


def element(name: str, *children: str, **attributes: str | int | bool | None) -> Markup:
    """One element. Text among the children and in the attributes is escaped; only `Markup` goes in as it is.

    Args:
        name: The tag.
        *children: What is inside, in order; none for a void element such as `meta`.
        **attributes: Underscores in names become hyphens, one at the end is dropped (`class_`). True stands alone,
            None and False leave the attribute out.

    Raises:
        ValueError: A tag or an attribute whose name is not plain, or children of a void element.
    """
    pairs = "".join(
        _attribute(key, value) for key, value in attributes.items() if value is not None and value is not False
    )
    _check_name(name)
    if name in VOID:
        if children:
            raise ValueError(f"<{name}> has no children; got {len(children)}")
        return Markup(f"<{name}{pairs}>")
    return Markup(f"<{name}{pairs}>{join(*children)}</{name}>")


def join(*children: str) -> Markup:
    """Pieces one after the other, text among them escaped."""
    return Markup("".join(child if isinstance(child, Markup) else escape(child) for child in children))


def escape(text: str) -> Markup:
    """Text as HTML: markup characters escaped, control characters as their pictures, lone surrogates as U+FFFD."""
    return Markup(html.escape(text.translate(SHOWN), quote=True))


def _attribute(name: str, value: str | int | bool) -> str:
    name = name.removesuffix("_").replace("_", "-")
    _check_name(name)
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise ValueError(
            f"names of tags and attributes are letters, digits and hyphens after a lower-case letter; got {name!r}"
        )
