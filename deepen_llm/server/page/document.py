"""The page as one document: markup, style and script, with nothing to fetch."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from deepen_llm.explain.markup import Markup, element
from deepen_llm.explain.page import STYLE

FOLDER = Path(__file__).parent
SCRIPT = (FOLDER / "chat.js").read_text(encoding="utf-8")
STYLES = STYLE.read_text(encoding="utf-8") + (FOLDER / "chat.css").read_text(encoding="utf-8")
_HASH = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
POLICY = (
    f"default-src 'none'; script-src 'sha256-{_HASH}'; style-src 'unsafe-inline'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""This script alone runs, whatever a model writes, and talks to this server alone."""


def render_document() -> str:
    """The whole page as HTML. Whom it asks it finds out itself, with a key where the server wants one."""
    main = element("main", _header(), _conversation(), _composer())
    body = element("body", main, element("script", Markup(SCRIPT)))
    return "<!doctype html>\n" + element("html", _head(), body, lang="en") + "\n"


def _head() -> Markup:
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name_="color-scheme", content="light dark"),
        element("title", "deepen"),
        element("style", Markup(STYLES)),
    )


def _header() -> Markup:
    theme = _button("Dark or light", "theme", aria_label="Change between dark and light")
    top = element("div", element("h1", "deepen"), theme, _button("New chat", "new"), class_="top")
    return element("header", top, element("div", class_="who"))


def _conversation() -> Markup:
    empty = element(
        "p", "Ask something. Each token will have the colour of the model that decided it.", class_="placeholder"
    )
    return element("section", empty, class_="conversation", aria_label="Conversation", aria_live="polite")


def _composer() -> Markup:
    """Where a question is written. The key is asked for only where the server wants one."""
    key = element(
        "label",
        "API key ",
        element("input", type_="password", class_="key", autocomplete="off"),
        class_="keyed",
        hidden=True,
    )
    settings = element(
        "div",
        _number("temperature", "0", minimum="0", step="0.1"),
        _number("max tokens", "256", minimum="1", step="1"),
        key,
        class_="settings",
    )
    question = element(
        "textarea",
        class_="question",
        rows=2,
        placeholder="Enter sends, Shift+Enter begins a new line, Escape stops",
        aria_label="Your message",
    )
    buttons = element(
        "div",
        _button("Send", "send"),
        _button("Ask again", "again", disabled=True),
        _button("Stop", "stop", disabled=True),
        class_="buttons",
    )
    return element("form", question, buttons, settings, class_="composer")


def _number(label: str, value: str, *, minimum: str, step: str) -> Markup:
    box = element(
        "input", type_="number", class_=label.replace(" ", "-"), value=value, min_=minimum, step_=step, required=True
    )
    return element("label", label, " ", box)


def _button(text: str, class_: str, **attributes: str | bool) -> Markup:
    kind = "submit" if class_ == "send" else "button"
    return element("button", text, type_=kind, class_=class_, **attributes)


DOCUMENT = render_document()
