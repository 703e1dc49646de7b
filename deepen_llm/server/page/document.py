"""The page as one document: markup, style and script, with nothing to fetch."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path

from deepen_llm.ensemble import Ensemble
from deepen_llm.explain.markup import Markup, element
from deepen_llm.explain.page import STYLE
from deepen_llm.explain.token import choose_colours
from deepen_llm.explain.wording import format_weight
from deepen_llm.server.page.question import list_members

LEAST = 0.01
"""The least weight that a slider gives: who has less is switched off."""
FOLDER = Path(__file__).parent
SCRIPT = (FOLDER / "chat.js").read_text(encoding="utf-8")
STYLES = STYLE.read_text(encoding="utf-8") + (FOLDER / "chat.css").read_text(encoding="utf-8")
_HASH = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
POLICY = (
    f"default-src 'none'; script-src 'sha256-{_HASH}'; style-src 'unsafe-inline'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""This script alone runs, whatever a model writes, and talks to this server alone."""


def render_document(ensemble: Ensemble) -> str:
    """The whole page as HTML, for an ensemble."""
    body = element(
        "body",
        element("main", _header(ensemble), _conversation(), _composer()),
        element("script", Markup(SCRIPT)),
        data_chat="yes" if ensemble.has_chat_template else "no",
    )
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


def _header(ensemble: Ensemble) -> Markup:
    """The members with their switches and weights: colour, name, on or off, how much."""
    members = list_members(ensemble)
    colours = choose_colours(members)
    rows = []
    for index, member in enumerate(members):
        role = " (main)" if member.is_main else ""
        rows.append(
            element(
                "li",
                element(
                    "label",
                    element("input", type_="checkbox", class_="on", checked=True),
                    element("i", class_=f"swatch one m{colours[member.name]}"),
                    element("b", member.name, title=member.name),
                    element("small", role),
                ),
                element(
                    "input",
                    type_="range",
                    class_="prior",
                    min_=f"{LEAST}",
                    max_="1",
                    step_="0.01",
                    value=f"{max(member.weight, LEAST):.2f}",
                    aria_label=f"weight of {member.name}",
                ),
                element("output", format_weight(member.weight)),
                class_="member",
                data_index=index,
                data_name=member.name,
                data_weight=f"{member.weight:.6f}",
            )
        )
    theme = _button("Dark or light", "theme", aria_label="Change between dark and light")
    top = element("div", element("h1", "deepen"), theme, _button("New chat", "new"), class_="top")
    notes = [element("p", element("small", note)) for note in _list_notes(ensemble)]
    return element("header", top, element("ul", *rows, class_="members", aria_label="Members"), *notes)


def _list_notes(ensemble: Ensemble) -> Iterator[str]:
    """What people must know of this ensemble to understand what they see."""
    if len(ensemble.members) > 1:
        yield "Weights with which an answer begins; switch a member off, and ask again to compare."
    if silent := [member.name for member in ensemble.members if not member.vocabulary.has_chat_template]:
        yield (
            f"No chat template: {', '.join(silent)}. Each message is gone on with as plain text, without those before; "
            "chat_template: plain in the member's settings makes it a chat."
        )


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
