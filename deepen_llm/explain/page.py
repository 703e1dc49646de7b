"""The page: the answer with each token in the colour of who decided it. One file, no script, nothing fetched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from deepen_llm.explain.chart import render_chart
from deepen_llm.explain.deciding import Decision
from deepen_llm.explain.explanation import ExplainedToken, Explanation
from deepen_llm.explain.markup import Markup, element, join
from deepen_llm.explain.token import AnswerMarkup, choose_colours, classes_of
from deepen_llm.explain.wording import (
    describe_decision,
    describe_key,
    format_prob,
    format_weight,
    show_token,
)

STYLE = Path(__file__).with_name("page.css")
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""Nothing is fetched and nothing runs, whatever a model or a user may have written."""
HINT = "Point at a token, tap it, or press Tab to walk through them, and see here what each member said."


def render_page(explanation: Explanation) -> str:
    """The whole page as HTML. All text of users and models is escaped, and no script runs on it."""
    colours = choose_colours(explanation.members)
    body = element(
        "main",
        _header(explanation),
        _legend(explanation, colours),
        render_chart(explanation, colours),
        _conversation(explanation),
        element("p", HINT, class_="hint"),
        _steps(explanation, colours),
    )
    return "<!doctype html>\n" + element("html", _head(), element("body", body), lang="en") + "\n"


def _head() -> Markup:
    style = Markup(STYLE.read_text(encoding="utf-8"))
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        element("title", "Who decided what - deepen explain"),
        element("style", style),
    )


def _header(explanation: Explanation) -> Markup:
    num_tokens = len(explanation.tokens)
    names = " + ".join(member.name for member in explanation.members)
    facts = [f"{num_tokens:,} tokens" if num_tokens != 1 else "1 token"]
    if len(explanation.members) > 1:
        facts.append(f"{explanation.num_fused:,} of them fused ({_percent(explanation.num_fused, num_tokens)})")
    return element(
        "header", element("h1", "Who decided what"), element("p", element("b", names), " - ", ", ".join(facts))
    )


def _legend(explanation: Explanation, colours: dict[str, int]) -> Markup:
    """A bar of all shares, and a line for each colour: what it means and how many tokens have it."""
    counts, num_tokens = explanation.counts, len(explanation.tokens)
    keys = list(_legend_keys(explanation))
    segments = [
        element("i", class_=classes_of(key, colours), style=f"flex-grow:{counts[key]}") for key in keys if counts[key]
    ]
    rows = [
        _legend_row(classes_of(key, colours), *describe_key(key, explanation), counts[key], num_tokens) for key in keys
    ]
    if num_alone := sum(token.is_left_alone for token in explanation.tokens):
        meaning = "dotted, whatever the colour: the step was left to the main model, and the others were not asked"
        rows.append(_legend_row("unfused", "Not fused", meaning, num_alone, num_tokens))
    bar = element("div", *segments, class_="bar", aria_hidden="true")
    return element("section", bar, element("ul", *rows), class_="legend", aria_label="Legend")


def _legend_row(look: str, name: str, meaning: str, number: int, num_tokens: int) -> Markup:
    """A look, whose or what it is, what it means, and how many tokens have it."""
    return element(
        "li",
        element("i", class_=f"swatch {look}"),
        element("b", name),
        element("small", meaning),
        element("b", _percent(number, num_tokens)),
        element("small", f"{number:,}"),
    )


def _legend_keys(explanation: Explanation) -> Iterator[Decision]:
    """Every decision that the legend tells of: all that can happen with so many members."""
    for member in explanation.members:
        yield Decision("main" if member.is_main else "other", (member.name,))
    if len(explanation.members) > 1:
        yield Decision("agreed", ())
    if len(explanation.members) > 2:
        yield Decision("overruled", ())
    yield Decision("fusion", ())
    if any(token.decision.kind == "forced" for token in explanation.tokens):
        yield Decision("forced", ())


def _conversation(explanation: Explanation) -> Markup:
    """What was asked, and the answer: in a chat as turns, else as one text that runs on."""
    answer_of = AnswerMarkup(explanation.members, num_tokens=len(explanation.tokens))
    tokens = map(answer_of.render, explanation.tokens)
    answer = element("span", *tokens, class_="answer", translate="no")
    *before, (role, last) = explanation.asked
    turns = [_turn(speaker, element("span", text, class_="prompt")) for speaker, text in before]
    if role:
        turns += [_turn(role, element("span", last, class_="prompt")), _turn("assistant", answer)]
    else:
        prompt = element("span", last, class_="prompt") if last else element("span", "(empty prompt)", class_="empty")
        turns.append(_turn("", join(prompt, answer)))
    return element("section", *turns, class_="conversation", aria_label="Prompt and answer")


def _turn(role: str, text: Markup) -> Markup:
    label = element("h2", role) if role else Markup()
    return element("div", label, element("div", text, class_="text", dir_="auto"), class_="turn")


def _steps(explanation: Explanation, colours: dict[str, int]) -> Markup:
    """Everything once more as a table, for reading without pointing, and for printing."""
    names = [member.name for member in explanation.members]
    headings = ["step", "token", "decided by", *names, "fused"]
    rows = [_step_cells(token, names, colours) for token in explanation.tokens]
    if not explanation.weight_curve.is_level:
        headings.append("weights")
        for token, cells in zip(explanation.tokens, rows, strict=True):
            cells.append(element("td", element("small", ", ".join(map(format_weight, token.step.weights)) or "-")))
    head = element("tr", *(element("th", text, scope="col") for text in headings))
    table = element("table", element("thead", head), element("tbody", *(element("tr", *cells) for cells in rows)))
    summary = element("summary", "Step by step")
    return element("details", summary, element("div", table, class_="scroll"), class_="steps")


def _step_cells(token: ExplainedToken, names: list[str], colours: dict[str, int]) -> list[Markup]:
    views = {view.member: view.top for view in token.step.members}
    number = token.step.step + 1
    link = element("a", str(number), href=f"#step-{number}")
    cells = [element("td", link), element("td", show_token(token.step.text))]
    swatch = element("i", class_=f"swatch {classes_of(token.decision, colours)}")
    cells.append(element("td", swatch, " ", describe_decision(token)))
    for top in (*(views.get(name, ()) for name in names), token.step.fused):
        best = [show_token(top[0].text), " ", element("small", format_prob(top[0].prob))] if top else ["-"]
        cells.append(element("td", *best))
    return cells


def _percent(number: int, total: int) -> str:
    return f"{number / max(total, 1):.0%}"
