"""A token of an answer in the colour of who decided it, with its panel: what both pages are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import final

from deepen_llm.explain.deciding import Decision
from deepen_llm.explain.explanation import ExplainedMember, ExplainedToken
from deepen_llm.explain.markup import Markup, element, join
from deepen_llm.explain.panel import render_panel
from deepen_llm.explain.wording import NUM_COLOURS


@final
class AnswerMarkup:
    """Renders the tokens of one answer."""

    def __init__(self, members: Sequence[ExplainedMember], *, num_tokens: int | None = None, prefix: str = "") -> None:
        """Take the ensemble.

        Args:
            members: Its members, in order.
            num_tokens: How many tokens the answer has; None where it is not whole yet.
            prefix: What the answer's ids begin with, where a page has several.
        """
        self._members, self._num_tokens, self._prefix = members, num_tokens, prefix
        self._colours = choose_colours(members)

    def render(self, token: ExplainedToken) -> Markup:
        """The token in the answer, with its panel inside, which shows while it is pointed at or has the focus."""
        number = token.step.step + 1
        by = f"{self._prefix}by-{number}"
        classes = [
            "token",
            classes_of(token.decision, self._colours),
            "unfused" if token.is_left_alone else "",
            "" if token.text or token.cut_text else "mark",
        ]
        return element(
            "span",
            _visible(token),
            render_panel(token, self._members, self._colours, by=by, num_tokens=self._num_tokens),
            class_=" ".join(filter(None, classes)),
            id_=f"{self._prefix}step-{number}",
            tabindex=0,
            role="note",
            aria_label=token.step.text,
            aria_describedby=by,
        )


def choose_colours(members: Iterable[ExplainedMember]) -> dict[str, int]:
    """Each member's colour, by its name."""
    return {member.name: index % NUM_COLOURS for index, member in enumerate(members)}


def classes_of(decision: Decision, colours: dict[str, int]) -> str:
    """How a decision looks: one member's colour, or the look of its kind."""
    if decision.kind in ("main", "other"):
        return f"one m{colours[decision.members[0]]}"
    return decision.kind


def _visible(token: ExplainedToken) -> Markup:
    """A token as it stands in the answer; signs, which are no part of it, for what has no text of its own."""
    if token.is_end:
        return element("span", "end", class_="sign")
    if not (token.text or token.cut_text):
        return element("span", "…", class_="sign")
    return join(_with_line_ends(token.text), element("s", token.cut_text) if token.cut_text else "")


def _with_line_ends(text: str) -> Markup:
    """The text with a sign before each line end, so that there is something to point at."""
    first, *others = text.split("\n")
    pieces: list[str] = [first]
    for line in others:
        pieces += [element("span", "⏎", class_="sign"), "\n", line]
    return join(*pieces)
