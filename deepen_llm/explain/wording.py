"""How the page puts things: who decided, what a colour means, a token whose spaces can be seen."""

from __future__ import annotations

from collections.abc import Sequence

from deepen_llm.explain.deciding import Decision, Kind
from deepen_llm.explain.explanation import ExplainedMember, ExplainedToken, Explanation
from deepen_llm.explain.markup import Markup, element
from deepen_llm.explain.weight_curve import LEAST_CHANGE, WeightCurve

NUM_COLOURS = 8
"""Colours of members in page.css; a ninth member has the first one's again."""
VISIBLE = str.maketrans({" ": "␣", "\n": "⏎", "\t": "⇥", "\r": "␍", "\u00a0": "⍽"})


def describe_decision(token: ExplainedToken) -> str:
    """Who decided a token, in one line, with what was out of the ordinary."""
    names = list_names(token.decision.members)
    texts: dict[Kind, str] = {
        "main": f"{names} alone, the main model",
        "other": f"{names}, against the main model",
        "agreed": f"{names} agree",
        "overruled": f"{names}, against the main model",
        "fusion": "the fusion: no member's own best token",
        "forced": "the structure: nothing else could come",
    }
    notes = ("not fused" if token.is_left_alone else "", "" if token.is_best else "drawn, not the most probable")
    return "; ".join(filter(None, (texts[token.decision.kind], *notes)))


def describe_key(key: Decision, explanation: Explanation) -> tuple[str, str]:
    """What a colour of the legend means: whose it is, and an explanation."""
    if key.kind in ("main", "other"):
        (member, *_) = (member for member in explanation.members if member.name == key.members[0])
        role = "main model, alone" if member.is_main else "against the main model"
        num_agreed = sum(any(token.matches.get(member.name, ())[:1]) for token in explanation.tokens)
        agreed = f"put the chosen token first at {num_agreed:,} of {len(explanation.tokens):,} steps"
        return member.name, f"{role}; {describe_weight(member)}; {agreed}"
    meanings = {
        "agreed": ("Several agree", "the main model among them"),
        "overruled": ("Several others", "against the main model"),
        "fusion": ("Only the fusion", "nobody's own best token"),
        "forced": ("The structure", "nothing else could come"),
    }
    return meanings[key.kind]


def describe_weight(member: ExplainedMember) -> str:
    """A member's weight as it was last, and what it was at the first token where that was another."""
    return f"weight {_move(member.first_weight, member.weight)}"


def describe_course(curve: WeightCurve) -> str:
    """What became of the weights of which a trace tells, in one sentence."""
    ends = list(zip(curve.names, curve.first, curve.last, strict=True))
    if curve.is_level:
        return f"Weights stayed at {list_names([f'{format_weight(last)} for {name}' for name, _, last in ends])}."
    return f"Weights: {', '.join(f'{name} {_move(first, last)}' for name, first, last in ends)}."


def format_weight(weight: float) -> str:
    """A weight with three figures; what rounds to nothing is still told from nothing."""
    return f"{weight:.3g}" if weight >= LEAST_CHANGE or not weight else "<0.001"


def _move(first: float | None, last: float) -> str:
    """From which weight to which; the last alone where they are the same."""
    if first is None or format_weight(first) == format_weight(last) or abs(first - last) < LEAST_CHANGE:
        return format_weight(last)
    return f"from {format_weight(first)} to {format_weight(last)}"


def list_names(names: Sequence[str]) -> str:
    """Names as a sentence has them: commas, and one "and"."""
    *before, last = names or ("",)
    return f"{', '.join(before)} and {last}" if before else last


def format_prob(prob: float) -> str:
    """A probability in percent; what rounds to nothing is still told from nothing."""
    return f"{prob:.1%}" if prob >= 0.0005 or not prob else "<0.1%"


def show_token(text: str) -> Markup:
    """A token by itself: its spaces and line ends visible, its direction kept from what stands around it."""
    return element("bdi", text.translate(VISIBLE) or "(nothing)", class_="piece")
