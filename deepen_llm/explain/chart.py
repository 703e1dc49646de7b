"""The weights over the answer as a small chart: inline SVG, a line a member in the member's colour."""

from __future__ import annotations

from collections.abc import Mapping

from deepen_llm.explain.explanation import Explanation
from deepen_llm.explain.markup import Markup, element
from deepen_llm.explain.weight_curve import WeightCurve
from deepen_llm.explain.wording import NUM_COLOURS, describe_course, describe_weight

WIDTH, HEIGHT, MARGIN = 1000, 80, 2
"""Units of the drawing: it is stretched to the width of the page, and as many pixels high as it has units. The margin
above and below keeps lines at 0 and 1 whole."""


def render_chart(explanation: Explanation, colours: Mapping[str, int]) -> Markup:
    """The section with the chart.

    A sentence where the weights stayed as they were; nothing for one member, or where the trace tells no weights.
    """
    curve = explanation.weight_curve
    if len(explanation.members) == 1 or not curve.points:
        return Markup()
    if curve.is_level:
        content = [element("p", describe_course(curve))]
    else:
        axis = element("div", element("small", "1"), element("small", "0"), class_="axis", aria_hidden="true")
        ends = element("div", element("small", "first token"), element("small", "end"), class_="ends")
        content = [
            element("h2", "Weights, token by token"),
            element("div", axis, draw_curve(curve, len(explanation.tokens), colours), ends, class_="plot"),
            _key(explanation, colours),
        ]
    return element("section", *content, class_="weights", aria_label="Weights")


def draw_curve(curve: WeightCurve, num_tokens: int, colours: Mapping[str, int]) -> Markup:
    """The drawing alone: from the first token at the left to the end of the answer at the right, 0 below, 1 above."""
    thinned = curve.thin()
    grid = [element("line", x1=0, x2=WIDTH, y1=y, y2=y) for y in map(_height, (0.0, 0.5, 1.0))]
    lines = []
    for index, name in enumerate(curve.names):
        points = " ".join(f"{WIDTH * at / num_tokens:.1f},{_height(weights[index])}" for at, weights in thinned.points)
        lines.append(element("polyline", element("title", name), class_=_look(index, colours[name]), points=points))
    return element(
        "svg",
        element("title", describe_course(curve), id_="weights-title"),
        *grid,
        *lines,
        role="img",
        aria_labelledby="weights-title",
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        preserveAspectRatio="none",
    )


def _key(explanation: Explanation, colours: Mapping[str, int]) -> Markup:
    """Whose line is whose, and what became of the weight."""
    rows = []
    for index, member in enumerate(explanation.members):
        swatch = element("i", class_=f"swatch one {_look(index, colours[member.name])}")
        rows.append(element("li", swatch, element("b", member.name), element("small", describe_weight(member))))
    return element("ul", *rows)


def _look(index: int, colour: int) -> str:
    """A member's colour; dashed where it is another one's, too."""
    return f"m{colour}" if index < NUM_COLOURS else f"m{colour} again"


def _height(weight: float) -> str:
    return f"{MARGIN + (HEIGHT - 2 * MARGIN) * (1 - weight):.1f}"
