from __future__ import annotations

import pytest

from deepen_llm.explain import Decision, ExplainedMember, ExplainedToken, Explanation
from deepen_llm.explain.weight_curve import WeightCurve
from deepen_llm.explain.wording import (
    describe_course,
    describe_decision,
    describe_key,
    describe_weight,
    format_prob,
    format_weight,
    list_names,
    show_token,
)
from deepen_llm.results import Candidate, StepTrace


def token(decision, *, best=1, matches=None):
    step = StepTrace(0, 1, "x", (), (Candidate(best, "x", 0.5),))
    return ExplainedToken("x", "", step, decision, False, matches or {})


@pytest.mark.parametrize(
    ("decision", "text"),
    [
        (Decision("main", ("a",)), "a alone, the main model"),
        (Decision("other", ("b",)), "b, against the main model"),
        (Decision("agreed", ("a", "b", "c")), "a, b and c agree"),
        (Decision("overruled", ("b", "c")), "b and c, against the main model"),
        (Decision("fusion", ()), "the fusion: no member's own best token"),
    ],
)
def test_each_decision_has_its_sentence(decision, text):
    assert describe_decision(token(decision)) == text


def test_a_drawn_token_says_so():
    assert describe_decision(token(Decision("fusion", ()), best=2)).endswith("; drawn, not the most probable")


def test_the_legend_tells_a_members_role_weight_and_how_often_its_best_token_was_chosen():
    members = (ExplainedMember("a", 0.75, True), ExplainedMember("b", 0.25, False))
    tokens = tuple(
        token(Decision("main", ("a",)), matches={"a": (True, False), "b": matches})
        for matches in ((True, False), (False, True), ())
    )
    explanation = Explanation((), members, tokens)
    text = "main model, alone; weight 0.75; put the chosen token first at 3 of 3 steps"
    assert describe_key(Decision("main", ("a",)), explanation) == ("a", text)
    text = "against the main model; weight 0.25; put the chosen token first at 1 of 3 steps"
    assert describe_key(Decision("other", ("b",)), explanation) == ("b", text)
    assert describe_key(Decision("fusion", ()), explanation)[0] == "Only the fusion"


@pytest.mark.parametrize(
    ("names", "text"), [((), ""), (("a",), "a"), (("a", "b"), "a and b"), (("a", "b", "c"), "a, b and c")]
)
def test_names_are_listed_as_in_a_sentence(names, text):
    assert list_names(names) == text


@pytest.mark.parametrize(
    ("prob", "text"), [(1.0, "100.0%"), (0.1234, "12.3%"), (0.0005, "0.1%"), (0.0004, "<0.1%"), (0.0, "0.0%")]
)
def test_a_probability_that_rounds_to_nothing_is_told_from_nothing(prob, text):
    assert format_prob(prob) == text


@pytest.mark.parametrize(
    ("first", "last", "text"),
    [
        (None, 0.75, "weight 0.75"),
        (0.75, 0.75, "weight 0.75"),
        (0.7501, 0.75, "weight 0.75"),
        (1 / 3, 0.75, "weight from 0.333 to 0.75"),
        (0.5, 1e-300, "weight from 0.5 to <0.001"),
        (1e-300, 1e-20, "weight <0.001"),
    ],
)
def test_a_weight_that_changed_says_from_what_to_what(first, last, text):
    assert describe_weight(ExplainedMember("a", last, True, first)) == text


@pytest.mark.parametrize(("weight", "text"), [(1.0, "1"), (0.12345, "0.123"), (0.0004, "<0.001"), (0.0, "0")])
def test_a_weight_that_rounds_to_nothing_is_told_from_nothing(weight, text):
    assert format_weight(weight) == text


def test_the_course_of_the_weights_is_one_sentence():
    moved = WeightCurve(("a", "b", "c"), ((0, (0.5, 0.25, 0.25)), (4, (0.25, 0.5, 0.25))))
    assert describe_course(moved) == "Weights: a from 0.5 to 0.25, b from 0.25 to 0.5, c 0.25."
    level = WeightCurve(("a", "b"), ((0, (0.7, 0.3)), (4, (0.7001, 0.2999))))
    assert describe_course(level) == "Weights stayed at 0.7 for a and 0.3 for b."


def test_spaces_and_line_ends_of_a_token_can_be_seen():
    assert show_token(" a\n\t<") == '<bdi class="piece">␣a⏎⇥&lt;</bdi>'
    assert "(nothing)" in show_token("")
