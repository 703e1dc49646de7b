"""What follows from how well members predict a text, in plain sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator

from deepen_llm.evaluation.own_text import MemberOnText, TextComparison

CHANCE = "; on so little text that may be chance: give more of it"


def describe_comparison(comparison: TextComparison) -> Iterator[str]:
    """The verdict: on the best member, on each of the others, on what was not compared."""
    best = comparison.best
    value = best.bits_per_byte.value
    if not math.isfinite(value):
        yield "Every member rules out something in this text: infinite bits per byte, so that they do not compare."
    elif len(comparison.members) == 1:
        yield f"{best.name} needs {value:.2f} bits per byte of this text."
    else:
        yield f"{best.name} predicts this text best: {value:.2f} bits per byte."
        for member in comparison.members:
            if member is not best:
                yield describe_member(comparison, member)
    if comparison.text.left_out_share > 0:
        share = max(comparison.text.left_out_share, 0.01)
        yield f"{share:.0%} of this text was not compared: not every member can write it."


def describe_member(comparison: TextComparison, member: MemberOnText) -> str:
    """How far a member is behind the best one, and what follows."""
    name, best, more = member.name, comparison.best.name, comparison.more_bits(member)
    if math.isinf(more):
        return f"{name} is far weaker here: it rules out something in this text; leave it out, or give it less weight."
    strength = comparison.strength(member)
    if strength in ("best", "about equal"):
        return f"{name} is about equal: {more:.0%} more bits per byte than {best}."
    doubt = "" if comparison.is_sure(member) else CHANCE
    if strength == "weaker":
        return f"{name} is weaker here: {more:.0%} more bits per byte than {best}{doubt}."
    advice = "expect to gain little from it, and give it less weight"
    return f"{name} is far weaker here: {more:.0%} more bits per byte than {best}; {advice}{doubt}."
