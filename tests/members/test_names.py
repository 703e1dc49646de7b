"""Members are told apart by name, before they are loaded."""

from __future__ import annotations

import pytest

from deepen_llm.config import MemberConfig
from deepen_llm.members.names import member_name, name_members


@pytest.mark.parametrize(
    ("model", "name"),
    [("org/model-7b", "model-7b"), ("/models/main", "main"), ("./models/main/", "main"), ("gpt2", "gpt2")],
)
def test_a_member_is_called_by_the_last_part_of_its_place(model, name):
    assert member_name(MemberConfig(model=model)) == name


def test_the_name_that_was_given_goes_first():
    assert member_name(MemberConfig(model="org/model-7b", name="mine")) == "mine"


def test_names_that_are_taken_get_a_number_and_the_others_stay_as_they_are():
    configs = [MemberConfig(model=model) for model in ("a/gpt2", "b/gpt2", "other", "gpt2")]
    named = name_members(configs)
    assert [member_name(config) for config in named] == ["gpt2", "gpt2#2", "other", "gpt2#3"]
    assert named[0] is configs[0] and named[2] is configs[2]
    assert [config.model for config in named] == [config.model for config in configs]


def test_a_number_that_somebody_was_given_as_a_name_is_not_given_twice():
    configs = [MemberConfig(model="x", name=name) for name in ("a", "a#2", "a", "a")]
    assert [member_name(config) for config in name_members(configs)] == ["a", "a#2", "a#3", "a#4"]
    assert name_members([]) == []
