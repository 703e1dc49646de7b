from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepen_llm.explain import Decision, ExplainedMember, ExplainedToken, Explanation, render_page
from deepen_llm.explain.page import POLICY, STYLE
from deepen_llm.results import Candidate, MemberTrace, StepTrace
from tests.explain.conftest import Page

STORY = "the cat sat on the mat.\nthe dog ran home."
HOSTILE = (
    "<script>alert(1)</script>",
    "</span></style></title><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)',
    "' autofocus onfocus='alert(1)",
    "<!--",
    "]]><![CDATA[",
    "&lt;b&gt; &amp; &#60;script&#62;",
    "javascript:alert(1)",
    "\x00\x0b\x1b[31m\u202e\ud800",
)
TAGS = {"html", "head", "meta", "title", "style", "body", "main", "header", "section", "details", "summary", "table"}
TAGS |= {
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "div",
    "span",
    "p",
    "h1",
    "h2",
    "ul",
    "li",
    "b",
    "i",
    "s",
    "small",
    "bdi",
    "a",
    "svg",
    "line",
    "polyline",
}


def made_up(text, name="one", other="two", role=""):
    """An explanation in which every text that a user or a model may have written is the one given."""
    top = (Candidate(1, text, 0.75), Candidate(2, text, 0.0001))
    step = StepTrace(0, 1, text, (MemberTrace(name, top), MemberTrace(other, top)), top)
    token = ExplainedToken(
        text, text, step, Decision("agreed", (name, other)), False, {name: (True, False), other: (True, False)}
    )
    members = (ExplainedMember(name, 0.5, True), ExplainedMember(other, 0.5, False))
    return Explanation(((role, text), (role, text)), members, (token, replace(token, step=replace(step, step=1))))


def assert_harmless(page):
    assert {tag for tag, _ in page.elements} <= TAGS
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name in ("src", "action", "srcset")]
        assert tag != "a" or re.fullmatch(r"#step-\d+", attributes["href"])
        assert re.fullmatch(r"(--p:[\d.]+%)?(flex-grow:\d+)?", attributes.get("style", ""))


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("role", ["", "user"])
def test_text_can_never_become_markup(text, role):
    page = Page(render_page(made_up(text, name=f"one{text}", other=f"two{text}", role=role and f"user{text}")))
    assert_harmless(page)
    bland = Page(render_page(made_up("x", role=role)))
    assert [(tag, list(names)) for tag, names in page.elements] == [(tag, list(names)) for tag, names in bland.elements]


@settings(deadline=None)
@given(st.text(alphabet=st.sampled_from("<>&\"'`=/ -!scriptonx;#\n\0\x1b")) | st.text(), st.sampled_from(["", "user"]))
def test_whatever_the_text_says_the_page_has_the_elements_of_any_other(text, role):
    if "\n" in text or not text:
        text = f"x{text.replace(chr(10), '')}"
    page = Page(render_page(made_up(text, role=role)))
    assert_harmless(page)
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in Page(render_page(made_up("x", role=role))).elements]


def test_the_page_needs_nothing_else_and_runs_nothing(explain, read_page):
    source = render_page(explain([STORY], "the cat"))
    page = read_page(source)
    assert source.startswith("<!doctype html>\n")
    policies = [a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies == [POLICY] and POLICY.startswith("default-src 'none'") and "script" not in POLICY
    assert not re.search(r"https?:|url\(|@import|<script|<link", source)
    assert page.elements[3][0] == "meta" and source.index(POLICY.split(";")[0][:11]) < source.index("<style>")


def test_the_style_cannot_end_early():
    assert "</" not in STYLE.read_text(encoding="utf-8")


def test_prompt_and_answer_run_on_as_one_text_even_inside_a_word(explain):
    explanation = explain([STORY], "the c")
    assert explanation.tokens[0].text[0] == "a"
    assert '<span class="prompt">the c</span><span class="answer"' in render_page(explanation)


def test_each_token_can_be_reached_by_keyboard_and_says_who_decided(explain, read_page):
    explanation = explain([STORY], "the cat")
    page = read_page(render_page(explanation))
    tokens = page.find("token")
    assert len(tokens) == len(explanation.tokens)
    assert {(token["tabindex"], token["role"]) for token in tokens} == {("0", "note")}
    assert [token["aria-label"] for token in tokens] == [token.step.text for token in explanation.tokens]
    described = {attrs.get("id") for attrs in page.find("by")}
    assert [token["aria-describedby"] for token in tokens] == [f"by-{n}" for n in range(1, len(tokens) + 1)]
    assert {token["aria-describedby"] for token in tokens} == described


def test_every_token_has_a_panel_with_a_column_a_member_and_one_for_the_fused(explain, read_page):
    explanation = explain([STORY], "the cat", kinds=("bpe", "sentencepiece", "unigram"))
    page = read_page(render_page(explanation))
    assert len(page.find("panel")) == len(explanation.tokens)
    assert len(page.find("column")) == 4 * len(explanation.tokens)


def test_the_legend_has_a_line_a_member_and_shares_that_add_up(explain, read_page):
    explanation = explain([STORY], "the cat", kinds=("bpe", "sentencepiece", "unigram"))
    page = read_page(render_page(explanation))
    assert len([1 for tag, _ in page.elements if tag == "li"]) == 6
    grows = [int(a["style"].split(":")[1]) for _, a in page.elements if (a.get("style") or "").startswith("flex-grow")]
    assert sum(grows) == len(explanation.tokens)
    for decision, number in explanation.counts.items():
        if decision.members:
            row = re.search(
                rf"<b>{decision.members[0]}</b><small>[^<]*</small><b>(\d+)%</b><small>(\d+)<", render_page(explanation)
            )
            assert row.groups() == (f"{number / len(explanation.tokens):.0%}".rstrip("%"), str(number))


def test_what_cannot_happen_is_not_in_the_legend(explain, read_page):
    assert "Several others" not in read_page(render_page(explain([STORY], "the cat"))).text
    alone = read_page(render_page(explain([STORY], "the cat", kinds=("bpe",)))).text
    assert "Several" not in alone and "of them fused" not in alone


def test_colours_follow_who_decided():
    step = made_up("x").tokens[0].step
    looks = {
        Decision("main", ("one",)): "token one m0",
        Decision("other", ("two",)): "token one m1",
        Decision("agreed", ("one", "two")): "token agreed",
        Decision("overruled", ("two", "two")): "token overruled",
        Decision("fusion", ()): "token fusion",
    }
    explanation = made_up("x")
    for decision, look in looks.items():
        token = replace(explanation.tokens[0], decision=decision, step=step)
        assert f'class="{look}"' in render_page(replace(explanation, tokens=(token,)))


def test_a_ninth_member_has_a_colour_too():
    explanation = made_up("x")
    members = tuple(ExplainedMember(f"m{n}", 1 / 9, n == 0) for n in range(9))
    token = replace(explanation.tokens[0], decision=Decision("other", ("m8",)))
    source = render_page(replace(explanation, members=members, tokens=(token,)))
    assert 'class="token one m0"' in source
    style = STYLE.read_text(encoding="utf-8")
    assert all(f".m{n} {{ --c: var(--m{n}); }}" in style for n in range(8))


def test_a_step_that_was_not_fused_looks_and_reads_so():
    explanation = made_up("x")
    (first, second) = explanation.tokens
    step = StepTrace(0, 1, "x", first.step.members[:1], first.step.fused, is_fused=False)
    source = render_page(replace(explanation, tokens=(replace(first, step=step), second)))
    assert source.count('agreed unfused"') == 1
    assert re.search(r'swatch unfused"></i><b>Not fused</b><small>.*?</small><b>50%</b><small>1<', source)
    assert "Not fused" not in render_page(explanation)
    assert "2 tokens, 1 of them fused (50%)" in source
    assert "was not asked" in source and "not fused: the main model" in source


def test_what_a_structure_forced_is_told_from_what_was_left_to_the_main_model(explain):
    schema = {"type": "object", "properties": {"the": {"type": "string"}}, "required": ["the"]}
    source = render_page(explain([STORY], "the cat", json_schema=schema, max_new_tokens=40))
    assert re.search(r'swatch forced"></i><b>The structure</b><small>nothing else could come</small>', source)
    assert "the structure: nothing else could come" in source and "nothing else could come</span>" in source
    assert 'class="token forced' in source
    assert "Not fused" not in source and "not fused" not in source
    assert "The structure" not in render_page(explain([STORY], "the cat"))


def test_line_ends_ends_of_sequence_and_parts_of_characters_can_be_pointed_at(explain):
    source = render_page(explain([STORY], "the cat sat on the mat."))
    assert '<span class="sign">⏎</span>\n' in source
    assert '<span class="sign">end</span>' in source
    emoji = render_page(explain(["go 🙂"], "go ", kinds=("sentencepiece", "bpe")))
    assert emoji.count('<span class="sign">…</span>') == 3


def test_what_a_stop_string_took_away_is_struck_out(explain):
    assert "<s>" in render_page(explain([STORY], "the cat sat", stop="mat"))
    assert "<s>" not in render_page(explain([STORY], "the cat sat"))


def test_an_empty_prompt_says_so(explain):
    source = render_page(explain([STORY], "", kinds=("sentencepiece", "unigram")))
    assert '<span class="empty">(empty prompt)</span>' in source


def test_a_chat_shows_its_turns():
    explanation = replace(made_up("x"), asked=(("system", "be brief"), ("user", "hello")))
    source = render_page(explanation)
    assert re.findall("<h2>(.*?)</h2>", source) == ["system", "user", "assistant"]
    assert '<span class="prompt">hello</span>' in source


def learnt(explain, **params):
    return explain([STORY], "the cat", texts_of={"sentencepiece": ["?"]}, settings={"weights": "adaptive"}, **params)


def test_weights_that_changed_are_drawn_told_by_member_and_in_the_table(explain, read_page):
    explanation = learnt(explain)
    page = read_page(render_page(explanation))
    assert len([1 for tag, _ in page.elements if tag == "svg"]) == 1
    assert_harmless(page)
    headings = page.text[page.text.index("step") :]
    assert "weights" in headings
    for member in explanation.members:
        assert f"weight from {member.first_weight:.3g} to " in page.text


def test_weights_that_stayed_are_a_line_and_no_drawing(explain, read_page):
    page = read_page(render_page(explain([STORY], "the cat")))
    assert "Weights stayed at 0.7 for bpe and 0.3 for sentencepiece." in page.text
    assert "svg" not in {tag for tag, _ in page.elements}
    assert not page.find("plot")


def test_hostile_names_change_nothing_in_a_page_with_a_chart():
    def drawn(name):
        explanation = made_up("x", name=f"one{name}", other=f"two{name}")
        tokens = tuple(
            replace(token, step=replace(token.step, weights=weights))
            for token, weights in zip(explanation.tokens, ((0.5, 0.5), (0.75, 0.25)), strict=True)
        )
        return Page(render_page(replace(explanation, tokens=tokens)))

    bland = drawn("x")
    for text in HOSTILE:
        page = drawn(text)
        assert_harmless(page)
        assert [(tag, list(names)) for tag, names in page.elements] == [
            (tag, list(names)) for tag, names in bland.elements
        ]


def test_every_step_stands_in_a_table_that_links_to_its_token(explain, read_page):
    explanation = explain([STORY], "the cat")
    page = read_page(render_page(explanation))
    links = [attrs["href"] for tag, attrs in page.elements if tag == "a"]
    assert links == [f"#{token['id']}" for token in page.find("token")]
