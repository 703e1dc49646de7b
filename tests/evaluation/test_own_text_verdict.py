from __future__ import annotations

import math

from deepen_llm.evaluation.own_text_verdict import describe_comparison
from tests.evaluation.test_own_text import compared, reached

MANY = 12


def verdict(*members, left_out=0.0):
    return list(describe_comparison(compared(*members, left_out=left_out)))


def test_who_is_best_who_is_equal_and_who_is_weaker_is_said_plainly():
    assert verdict(
        reached("far", *[1.4] * MANY),
        reached("good", *[1.0] * MANY),
        reached("near", *[1.03] * MANY),
        reached("behind", *[1.15] * MANY),
    ) == [
        "good predicts this text best: 1.00 bits per byte.",
        "far is far weaker here: 40% more bits per byte than good; expect to gain little from it, and give it less "
        "weight.",
        "near is about equal: 3% more bits per byte than good.",
        "behind is weaker here: 15% more bits per byte than good.",
    ]


def test_what_may_be_chance_is_called_so():
    _, one = verdict(reached("a", 1.0), reached("b", 1.4))
    assert one.endswith("give it less weight; on so little text that may be chance: give more of it.")
    _, mixed = verdict(reached("a", *[1.0] * MANY), reached("b", 4.0, *[0.9] * (MANY - 1)))
    assert mixed == (
        "b is weaker here: 16% more bits per byte than a; on so little text that may be chance: give more of it."
    )


def test_a_member_that_rules_out_what_is_there_is_said_to():
    assert verdict(reached("a", 1.0), reached("b", math.inf))[1] == (
        "b is far weaker here: it rules out something in this text; leave it out, or give it less weight."
    )
    assert verdict(reached("a", math.inf), reached("b", math.inf)) == [
        "Every member rules out something in this text: infinite bits per byte, so that they do not compare."
    ]


def test_a_member_without_others_is_only_told_its_figure():
    assert verdict(reached("a", 1.234)) == ["a needs 1.23 bits per byte of this text."]


def test_what_was_left_out_is_said_also_where_it_is_little():
    assert verdict(reached("a", 1.0), left_out=0.312)[-1] == (
        "31% of this text was not compared: not every member can write it."
    )
    assert verdict(reached("a", 1.0), left_out=0.0001)[-1].startswith("1% of this text")
