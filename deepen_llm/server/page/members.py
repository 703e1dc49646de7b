"""Whom the page asks: each member with its colour, its switch and its weight."""

from __future__ import annotations

from collections.abc import Iterator

from deepen_llm.ensemble import Ensemble
from deepen_llm.explain import ExplainedMember
from deepen_llm.explain.markup import Markup, element, join
from deepen_llm.explain.token import choose_colours
from deepen_llm.explain.wording import format_weight

LEAST = 0.01
"""The least weight that a slider gives: who is to have none is switched off."""


def list_members(ensemble: Ensemble) -> list[ExplainedMember]:
    """The members with the weights that a request begins with."""
    names = zip(ensemble.member_names, ensemble.prior_weights, strict=True)
    return [ExplainedMember(name, weight, name == ensemble.main_name) for name, weight in names]


def describe_members(ensemble: Ensemble) -> dict[str, object]:
    """The members as markup, and whether they can chat."""
    members = list_members(ensemble)
    colours = choose_colours(members)
    rows = [_render_member(member, index, colours[member.name]) for index, member in enumerate(members)]
    notes = [element("p", element("small", note)) for note in _list_notes(ensemble)]
    html = join(element("ul", *rows, class_="members", aria_label="Members"), *notes)
    return {"html": html, "is_chat": ensemble.has_chat_template}


def _render_member(member: ExplainedMember, index: int, colour: int) -> Markup:
    switch = element(
        "label",
        element("input", type_="checkbox", class_="on", checked=True),
        element("i", class_=f"swatch one m{colour}"),
        element("b", member.name, title=member.name),
        element("small", "(main)" if member.is_main else ""),
    )
    slider = element(
        "input",
        type_="range",
        class_="prior",
        min_=f"{LEAST}",
        max_="1",
        step_="0.01",
        value=f"{max(member.weight, LEAST):.2f}",
        aria_label=f"weight of {member.name}",
    )
    weight = element("output", format_weight(member.weight))
    return element(
        "li",
        switch,
        slider,
        weight,
        class_="member",
        data_index=index,
        data_name=member.name,
        data_weight=f"{member.weight:.6f}",
    )


def _list_notes(ensemble: Ensemble) -> Iterator[str]:
    """What people must know of this ensemble to understand what they see."""
    if len(ensemble.members) > 1:
        yield "Weights with which an answer begins; switch a member off, and ask again to compare."
    members = [member for member in ensemble.members if member.source_reader is None]
    if silent := [member.name for member in members if not member.vocabulary.has_chat_template]:
        yield (
            f"No chat template: {', '.join(silent)}. Each message is gone on with as plain text, without those before; "
            "chat_template: plain in the member's settings makes it a chat."
        )
