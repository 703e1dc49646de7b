"""What members are called: the name given, or the last part of where they come from; never two the same."""

from __future__ import annotations

import pytest

from deepen_llm.config import MemberConfig
from deepen_llm.members.names import member_name, name_members


@pytest.mark.parametrize(
    ("model", "name", "expected"),
    [
        ("org/model-1b", None, "model-1b"),
        ("gpt2", None, "gpt2"),
        ("models/local", None, "local"),
        ("models/local/", None, "local"),
        ("../models/qwen2.5", None, "qwen2.5"),
        ("org/model", "mine", "mine"),
        ("org/model", "org/mine", "org/mine"),
    ],
)
def test_a_member_is_called_as_told_or_as_its_folder(model, name, expected):
    assert member_name(MemberConfig(model=model, name=name)) == expected


def named(*members):
    return [member_name(config) for config in name_members([MemberConfig(**values) for values in members])]


def test_the_same_name_again_gets_a_number():
    assert named({"model": "gpt2"}, {"model": "org/gpt2"}, {"model": "gpt2"}) == ["gpt2", "gpt2#2", "gpt2#3"]


def test_a_number_that_is_taken_is_skipped():
    members = ({"model": "a"}, {"model": "b", "name": "a#2"}, {"model": "c/a"}, {"model": "d/a"})
    assert named(*members) == ["a", "a#2", "a#3", "a#4"]
    assert named({"model": "a"}, {"model": "a"}, {"model": "b", "name": "a#2"}) == ["a", "a#2", "a#2#2"]


def test_given_names_are_told_apart_too():
    assert named({"model": "a", "name": "x"}, {"model": "b", "name": "x"}) == ["x", "x#2"]


def test_members_keep_their_order_and_settings_and_those_with_a_name_of_their_own_are_left_as_they_are():
    configs = [
        MemberConfig(model="a", dtype="float32"),
        MemberConfig(model="b/a", dtype="bfloat16"),
        MemberConfig(model="c"),
    ]
    first, second, third = name_members(configs)
    assert first is configs[0] and third is configs[2]
    assert second == configs[1].replace(name="a#2")
    assert (second.model, second.dtype) == ("b/a", "bfloat16")


def test_no_members_have_no_names():
    assert name_members([]) == []
