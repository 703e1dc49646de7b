from __future__ import annotations

import pytest

from deepen_llm import Ensemble, EnsembleConfig, FusionConfig
from deepen_llm.errors import ConfigError, MemberError
from deepen_llm.evaluation.context_window import Passage
from deepen_llm.evaluation.request_cache import RequestCache
from deepen_llm.evaluation.systems import METHODS, System, each_alone, find_method, list_systems, run_system
from deepen_llm.evaluation.tasks import TextTask, find_tasks
from deepen_llm.testing import ScriptedMember
from tests.vocabularies import load_toy

TWO_METHODS = {name: METHODS[name] for name in ("default", "published")}


def names(config, members, **options):
    return [system.name for system in list_systems(config, members, TWO_METHODS, **options)]


def test_members_take_part_alone_and_together_by_every_method():
    config = EnsembleConfig(members=("a", "b"), weights=(0.7, 0.3), main=1)
    systems = list(list_systems(config, ["a", "b"], TWO_METHODS, with_members=True))
    assert [system.name for system in systems] == ["a alone", "b alone", "ensemble, default", "ensemble, published"]
    assert [len(system.config.members) for system in systems] == [1, 1, 2, 2]
    assert systems[3].config == config.replace(fusion=METHODS["published"])
    assert names(config, ["a", "b"], with_members=False) == ["ensemble, default", "ensemble, published"]


def test_a_single_model_takes_part_once():
    assert names(EnsembleConfig(members=("a",)), ["a"], with_members=False) == ["a alone"]


def test_what_a_system_cannot_do_is_noted_and_the_rest_is_done():
    member = ScriptedMember(load_toy("unigram without bytes"), ["the dog"])
    config = EnsembleConfig(members=(member.name,))
    tasks = [
        TextTask([Passage("the", " \N{SNOWMAN} dog")], "snow.txt"),
        *find_tasks(["capitals"], limit=2),
    ]
    told = []
    result = run_system(
        System("toy alone", config, is_member=True),
        lambda given: Ensemble([member], given),
        tasks,
        RequestCache(),
        lambda label, number: told.append((label, number)),
    )
    refused, done = result.tasks["bits per byte"], result.tasks["capitals"]
    assert refused.scores is None and "cannot express" in refused.refusal
    assert done.scores is not None and len(done.scores.values) == 2
    assert sum(number for label, number in told if label == "toy alone: capitals") == 2
    assert member.is_closed


def test_a_member_that_fails_ends_the_run():
    member = ScriptedMember(load_toy("unigram without bytes"), ["the dog"])

    def fail(tokens):
        raise RuntimeError("out of memory")

    member.before_pass = fail
    system = System("toy alone", EnsembleConfig(members=(member.name,)), is_member=True)
    tasks = find_tasks(["capitals"], limit=1)
    with pytest.raises(MemberError, match="out of memory"):
        run_system(system, lambda given: Ensemble([member], given), tasks, RequestCache(), lambda *told: None)


def test_each_alone_keeps_a_members_settings_and_drops_what_belongs_to_the_ensemble():
    config = EnsembleConfig(
        members=({"model": "a", "dtype": "float16"}, "b"), weights=(0.3, 0.7), main=1, max_batch_size=4
    )
    first, second = each_alone(config)
    assert first.members == config.members[:1] and second.members == config.members[1:]
    assert (first.weights, first.main, first.max_batch_size) == (None, 0, 4)


def test_default_and_published_are_what_the_configuration_calls_so():
    assert find_method("default") == FusionConfig()
    assert find_method("published") == FusionConfig.published()


def test_an_unknown_method_lists_the_known_ones():
    with pytest.raises(ConfigError, match=f"no method 'majority': the known ones are {', '.join(METHODS)}"):
        find_method("majority")
