from __future__ import annotations

import pytest

from deepen_llm import Ensemble, EnsembleConfig, FusionConfig
from deepen_llm.errors import MemberError
from deepen_llm.evaluation.assignments import TextAssignment, find_assignments
from deepen_llm.evaluation.contest import Entrant, list_entrants, run_entrant
from deepen_llm.evaluation.journal import Journal
from deepen_llm.evaluation.passages import Passage
from deepen_llm.testing import ScriptedMember
from tests.vocabularies import load_toy

METHODS = {"default": FusionConfig(), "published": FusionConfig.published()}


def names(config, members, **options):
    return [entrant.name for entrant in list_entrants(config, members, METHODS, **options)]


def test_members_take_part_alone_and_together_by_every_method():
    config = EnsembleConfig(members=("a", "b"), weights=(0.7, 0.3), main=1)
    entrants = list(list_entrants(config, ["a", "b"], METHODS, with_members=True))
    assert [entrant.name for entrant in entrants] == ["a alone", "b alone", "ensemble, default", "ensemble, published"]
    assert [len(entrant.config.members) for entrant in entrants] == [1, 1, 2, 2]
    assert entrants[3].config == config.replace(fusion=METHODS["published"])
    assert names(config, ["a", "b"], with_members=False) == ["ensemble, default", "ensemble, published"]


def test_a_single_model_takes_part_once():
    assert names(EnsembleConfig(members=("a",)), ["a"], with_members=False) == ["a alone"]


def test_what_an_entrant_cannot_do_is_noted_and_the_rest_is_done():
    member = ScriptedMember(load_toy("unigram without bytes"), ["the dog"])
    config = EnsembleConfig(members=(member.name,))
    assignments = [
        TextAssignment([Passage("the", " \N{SNOWMAN} dog")], "snow.txt"),
        *find_assignments(["capitals"], limit=2),
    ]
    told = []
    result = run_entrant(
        Entrant("toy alone", config, is_member=True),
        lambda given: Ensemble([member], given),
        assignments,
        Journal(),
        lambda label, number: told.append((label, number)),
    )
    refused, done = result.outcomes["bits per byte"], result.outcomes["capitals"]
    assert refused.tally is None and "cannot express" in refused.refusal
    assert done.tally is not None and len(done.tally.values) == 2
    assert sum(number for label, number in told if label == "toy alone: capitals") == 2
    assert member.is_closed


def test_a_member_that_fails_ends_the_run():
    member = ScriptedMember(load_toy("unigram without bytes"), ["the dog"])

    def fail(tokens):
        raise RuntimeError("out of memory")

    member.before_pass = fail
    entrant = Entrant("toy alone", EnsembleConfig(members=(member.name,)), is_member=True)
    assignments = find_assignments(["capitals"], limit=1)
    with pytest.raises(MemberError, match="out of memory"):
        run_entrant(entrant, lambda given: Ensemble([member], given), assignments, Journal(), lambda *told: None)
