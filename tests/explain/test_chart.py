from __future__ import annotations

from xml.etree import ElementTree

import pytest

from deepen_llm.explain import Decision, ExplainedMember, ExplainedToken, Explanation
from deepen_llm.explain.chart import HEIGHT, WIDTH, draw_curve, render_chart
from deepen_llm.explain.page import STYLE
from deepen_llm.explain.weight_curve import WeightCurve
from deepen_llm.explain.wording import NUM_COLOURS
from deepen_llm.results import StepTrace


def explain(names, weights, last):
    """An answer with these weights at its steps and these at its end."""
    first = next(filter(None, weights), [None] * len(names))
    members = tuple(
        ExplainedMember(name, weight, at == 0, start)
        for at, (name, weight, start) in enumerate(zip(names, last, first, strict=True))
    )
    tokens = tuple(
        ExplainedToken("x", "", StepTrace(at, 1, "x", (), (), weights=given), Decision("fusion", ()), False, {})
        for at, given in enumerate(weights)
    )
    return Explanation((), members, tokens)


def read(section):
    """The section, and each line of its drawing as points."""
    root = ElementTree.fromstring(section)
    lines = {
        line.find("title").text: [tuple(map(float, point.split(","))) for point in line.get("points").split()]
        for line in root.iter("polyline")
    }
    return root, lines


def render(names, weights, last):
    return render_chart(explain(names, weights, last), {name: at % NUM_COLOURS for at, name in enumerate(names)})


def test_a_line_a_member_runs_from_the_first_token_to_the_end():
    root, lines = read(render(("one", "two"), [(1.0, 0.0), (0.75, 0.25)], (0.5, 0.5)))
    assert lines == {"one": [(0, 2), (500, 21), (1000, 40)], "two": [(0, 78), (500, 59), (1000, 40)]}
    assert [line.get("class") for line in root.iter("polyline")] == ["m0", "m1"]
    (svg,) = root.iter("svg")
    assert svg.get("viewBox") == f"0 0 {WIDTH} {HEIGHT}"
    assert f"height: {HEIGHT}px" in STYLE.read_text(encoding="utf-8")


def test_the_drawing_has_a_title_for_those_who_do_not_see_it_and_a_key():
    root, _ = read(render(("one", "two"), [(0.25, 0.75), (0.375, 0.625)], (0.5, 0.5)))
    (svg,) = root.iter("svg")
    title = svg.find("title")
    assert title.text == "Weights: one from 0.25 to 0.5, two from 0.75 to 0.5."
    assert (svg.get("role"), svg.get("aria-labelledby")) == ("img", title.get("id"))
    assert ["".join(row.itertext()) for row in root.iter("li")] == [
        "oneweight from 0.25 to 0.5",
        "twoweight from 0.75 to 0.5",
    ]


def test_steps_that_a_structure_forced_are_passed_over():
    _, lines = read(render(("one", "two"), [(), (0.5, 0.5), (), (0.75, 0.25)], (0.75, 0.25)))
    assert [x for x, _ in lines["one"]] == [250, 750, 1000]


def test_an_answer_of_one_token_is_a_line_from_before_it_to_after_it():
    _, lines = read(render(("one", "two"), [(0.5, 0.5)], (1.0, 0.0)))
    assert lines["one"] == [(0, 40), (1000, 2)]


@pytest.mark.parametrize("weights", [[(0.7, 0.3)], [(0.7, 0.3), (), (0.7001, 0.2999)]])
def test_weights_that_stayed_are_a_sentence(weights):
    section = render(("one", "two"), weights, (0.7, 0.3))
    assert "<p>Weights stayed at 0.7 for one and 0.3 for two.</p>" in section
    assert "<svg" not in section


def test_one_member_and_weights_that_are_not_known_are_not_told():
    assert render(("one",), [(1.0,), (1.0,)], (1.0,)) == ""
    assert render(("one", "two"), [(), ()], (0.5, 0.5)) == ""


def test_a_ninth_member_has_the_first_ones_colour_and_a_dashed_line():
    names = [f"member{at}" for at in range(9)]
    root, lines = read(render(names, [(1 / 9,) * 9], (0.2, *[0.1] * 8)))
    assert len(lines) == 9
    looks = [line.get("class") for line in root.iter("polyline")]
    assert looks == [*(f"m{at}" for at in range(8)), "m0 again"]
    assert ".plot .again { stroke-dasharray" in STYLE.read_text(encoding="utf-8")


def test_a_very_long_answer_has_500_points_a_line():
    weights = [(at / 4000, 1 - at / 4000) for at in range(4000)]
    _, lines = read(render(("one", "two"), weights, (1.0, 0.0)))
    assert {len(points) for points in lines.values()} == {500}
    assert lines["one"][0] == (0, 78) and lines["one"][-1] == (1000, 2)


def test_names_are_text_whatever_they_hold():
    names = ("<script>&\"'", "]]><svg\x00>")
    root, lines = read(render(names, [(0.25, 0.75)], (0.5, 0.5)))
    assert list(lines) == ["<script>&\"'", "]]><svg␀>"]
    assert len(list(root.iter("svg"))) == 1 and not list(root.iter("script"))


def test_the_drawing_stands_alone_as_xml():
    curve = WeightCurve(("one", "two"), ((0, (0.5, 0.5)), (1, (0.25, 0.75))))
    assert ElementTree.fromstring(draw_curve(curve, 1, {"one": 0, "two": 1})).tag == "svg"
