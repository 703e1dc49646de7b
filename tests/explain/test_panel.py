from __future__ import annotations

from dataclasses import replace

import pytest

from deepen_llm.explain import Decision, ExplainedMember, ExplainedToken
from deepen_llm.explain.panel import render_panel
from deepen_llm.results import Candidate, MemberTrace, StepTrace

MEMBERS = (ExplainedMember("one", 0.5, True), ExplainedMember("two", 0.5, False))
COLOURS = {"one": 0, "two": 1}


@pytest.fixture
def token():
    """ " she", the main model's own choice, which the other member did not name."""
    views = (
        MemberTrace("one", (Candidate(7, " she", 0.5), Candidate(8, " he", 0.25))),
        MemberTrace("two", (Candidate(3, " s", 0.9), Candidate(4, " h", 0.0001))),
    )
    step = StepTrace(4, 7, " she", views, (Candidate(7, " she", 0.6), Candidate(9, " it", 0.1)))
    matches = {"one": (True, False), "two": (False, False)}
    return ExplainedToken(" she", "", step, Decision("main", ("one",)), False, matches)


def render(token):
    return render_panel(token, MEMBERS, COLOURS, by=f"by-{token.step.step + 1}", num_tokens=9)


def test_every_candidate_has_its_probability_and_a_bar_of_that_length(token):
    panel = render(token)
    assert '<bdi class="piece">␣he</bdi><small>25.0%</small>' in panel
    assert panel.count("--p:50.0%") == 1 and panel.count("--p:90.0%") == 1 and panel.count("--p:60.0%") == 1
    assert "&lt;0.1%" in panel
    assert panel.count('class="row') == 6


def test_the_chosen_token_stands_out_wherever_it_was_named(token):
    assert render(token).count("row chosen") == 2, "by the main model, and among the fused"


def test_the_head_tells_the_token_who_decided_and_the_step(token):
    panel = render(token)
    assert '<b><bdi class="piece">␣she</bdi></b>' in panel
    assert 'id="by-5" class="by">one alone, the main model<' in panel or 'class="by" id="by-5"' in panel
    assert "step 5 of 9" in panel


def test_a_member_that_was_not_asked_is_told(token):
    step = replace(token.step, members=token.step.members[:1])
    assert render(replace(token, step=step)).count("was not asked") == 1
    assert render(token).count("was not asked") == 0


def test_each_member_has_the_weight_that_it_had_at_this_token(token):
    step = replace(token.step, members=token.step.members[:1], weights=(0.875, 0.125))
    panel = render(replace(token, step=step))
    assert "one <small>weight 0.875</small>" in panel
    assert "two <small>weight 0.125</small></span><small>was not asked</small>" in panel
    assert "weight" not in render(token), "the step tells none"


def test_a_members_weight_is_not_told_where_it_has_all_of_it(token):
    step = replace(token.step, members=token.step.members[:1], weights=(1.0,))
    token = replace(token, step=step)
    assert "weight" not in render_panel(token, MEMBERS[:1], COLOURS, by="by-1")


def test_texts_that_were_followed_further_are_told(token):
    first, second = token.step.members
    step = replace(token.step, members=(first, replace(second, extended=(" s", " sh"))))
    panel = render(replace(token, step=step))
    assert 'followed further: <bdi class="piece">␣s</bdi> <bdi class="piece">␣sh</bdi>' in panel
    assert "followed further" not in render(token)
