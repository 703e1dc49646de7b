"""What stands below the answer while a token is pointed at: every member's best tokens, and the fused ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from deepen_llm.explain.explanation import ExplainedMember, ExplainedToken
from deepen_llm.explain.markup import Markup, element, join
from deepen_llm.explain.wording import describe_decision, format_prob, format_weight, show_token
from deepen_llm.results import Candidate

NUM_EXTENDED = 4


def render_panel(
    token: ExplainedToken,
    members: Sequence[ExplainedMember],
    colours: Mapping[str, int],
    *,
    by: str,
    num_tokens: int | None = None,
) -> Markup:
    """The panel of one token. It lies over the foot of the window, so that nothing moves when it shows.

    Args:
        token: Whose panel.
        members: The ensemble's, in order.
        colours: Theirs, by name.
        by: The id of the line that says who decided the token.
        num_tokens: How many tokens the answer has; None where it is not whole yet.
    """
    step = token.step
    num_members = len(members)
    weights = step.weights if step.weights and num_members > 1 else [None] * num_members
    columns = [
        _member_column(member.name, f"m{colours[member.name]}", weight, token)
        for member, weight in zip(members, weights, strict=True)
    ]
    chosen = [candidate.token_id == step.token_id for candidate in step.fused]
    title = "fused" if token.is_fused else "not fused: the main model's"
    if token.decision.kind == "forced":
        title = "nothing else could come"
    columns.append(_column(title, "fused", _rows(step.fused, chosen)))
    head = element(
        "span",
        element("b", show_token(step.text)),
        element("span", describe_decision(token), id_=by, class_="by"),
        element("small", f"step {step.step + 1}" + (f" of {num_tokens}" if num_tokens else "")),
        class_="head",
    )
    return element("span", head, element("span", *columns, class_="columns"), class_="panel")


def _member_column(name: str, class_: str, weight: float | None, token: ExplainedToken) -> Markup:
    """What one member said, and its weight.

    Where it was read as text, also which texts were followed further before they were counted.
    """
    title = join(name) if weight is None else join(name, " ", element("small", f"weight {format_weight(weight)}"))
    view = next((view for view in token.step.members if view.member == name), None)
    if view is None or not view.top:
        return _column(title, class_, [element("small", "was not asked")])
    rows = _rows(view.top, token.matches[name])
    if extended := view.extended[:NUM_EXTENDED]:
        pieces = [piece for text in extended for piece in (" ", show_token(text))]
        rows.append(element("small", "followed further:", *pieces, class_="more"))
    return _column(title, class_, rows)


def _column(title: str, class_: str, rows: Sequence[Markup]) -> Markup:
    name = element("span", element("i", class_=f"swatch one {class_}"), title, class_="name")
    return element("span", name, *rows, class_=f"column {class_}")


def _rows(top: Sequence[Candidate], is_chosen: Sequence[bool]) -> list[Markup]:
    """Best tokens with a bar for each probability."""
    return [_row(candidate, chosen) for candidate, chosen in zip(top, is_chosen, strict=True)]


def _row(candidate: Candidate, is_chosen: bool) -> Markup:
    return element(
        "span",
        show_token(candidate.text),
        element("small", format_prob(candidate.prob)),
        class_="row chosen" if is_chosen else "row",
        style=f"--p:{100 * candidate.prob:.1f}%",
    )
