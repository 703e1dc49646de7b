from __future__ import annotations

import json
import math

import pytest

from deepen_llm import Ensemble, EnsembleConfig
from deepen_llm.errors import ConfigError, MemberError
from deepen_llm.evaluation import (
    METHODS,
    RequestCache,
    Runner,
    count_trial_requests,
    find_tasks,
    lend_members,
    list_members,
    list_systems,
    run_system,
    settle_tasks,
)
from deepen_llm.evaluation.choice_task import TRIAL_SIZE, LetterTrial
from deepen_llm.evaluation.items import load_items
from deepen_llm.evaluation.task_file import TASKS_FOLDER, TaskFile
from deepen_llm.testing import ScriptedMember
from tests.vocabularies import load_toy

PIQA = TaskFile.load(TASKS_FOLDER / "piqa.yaml")
NUM_ROWS = 50
NAMES = ("bpe", "sentencepiece")


@pytest.fixture
def folder(tmp_path):
    """Questions of which neither letter is right more often."""
    rows = [{"goal": f"to do {n}", "sol1": f"first {n}", "sol2": f"then {n}", "label": n % 2} for n in range(NUM_ROWS)]
    (tmp_path / "piqa").mkdir()
    (tmp_path / "piqa" / "validation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


class Members:
    """Scripted members by name, and a record of which were opened; `know` says who knows which questions by letter."""

    def __init__(self, vocabularies, folder, **know):
        self.config = EnsembleConfig(members=NAMES, weights=(0.9, 0.1))
        self.opened, self.members = [], {}
        items = load_items(PIQA, folder)
        for name in NAMES:
            letters = [f"{item.prompt} {'AB'[item.right_option]}" for item in items[: know.get(name, 0)]]
            texts = [f"{item.text_prompt} {item.options[item.right_option]}" for item in items]
            self.members[name] = ScriptedMember(vocabularies[name], [*letters, *texts])

    @property
    def alone(self):
        return list_members(self.config, NAMES)

    @property
    def num_passes(self):
        return sum(len(member.passes) for member in self.members.values())

    def open(self, config):
        names = [member.model for member in config.members]
        self.opened.append(names)
        members = [self.members[name] for name in names]
        for member in members:
            member.is_closed = False
        return Ensemble(members, config)

    def settle(self, tasks, cache=None, report=lambda label, number: None):
        return settle_tasks(tasks, self.alone, self.open, RequestCache() if cache is None else cache, report)


def find(folder, **options):
    return find_tasks(["piqa"], data_folder=folder, **options)


def test_letters_are_kept_where_one_member_knows_them_and_nothing_is_asked_twice(vocabularies, folder):
    members, cache, told = Members(vocabularies, folder, sentencepiece=NUM_ROWS), RequestCache(), []
    tasks = find(folder, limit=TRIAL_SIZE)
    assert count_trial_requests(tasks) == 2 * TRIAL_SIZE
    (task,) = members.settle(tasks, cache, lambda label, number: told.append((label, number)))
    assert members.opened == [["bpe"], ["sentencepiece"]]
    assert sum(number for label, number in told if label == "sentencepiece alone: piqa, letters") == 2 * TRIAL_SIZE
    assert task.score_by == "letter" and task.about.startswith(PIQA.about)
    assert "a member's letters are above chance: sentencepiece alone got 40 of 40 right, guessing gets 20" in task.about

    asked = members.num_passes
    results = [run_system(system, members.open, [task], cache, lambda label, number: None) for system in members.alone]
    assert members.num_passes == asked
    assert results[1].tasks["piqa"].scores.estimate.value == 1.0


def test_the_others_are_not_tried_once_a_member_is_above_chance(vocabularies, folder):
    members = Members(vocabularies, folder, bpe=NUM_ROWS, sentencepiece=NUM_ROWS)
    (task,) = members.settle(find(folder))
    assert members.opened == [["bpe"]]
    assert task.score_by == "letter"


def test_where_no_member_knows_the_letters_every_system_is_scored_by_text(vocabularies, folder):
    members, cache = Members(vocabularies, folder), RequestCache()
    tasks = members.settle(find(folder, limit=TRIAL_SIZE), cache)
    assert tasks[0].score_by == "text"
    assert "no member's letters are above chance: " in tasks[0].about
    systems = list_systems(members.config, NAMES, {"default": METHODS["default"]}, with_members=True)
    results = [run_system(system, members.open, tasks, cache, lambda label, number: None) for system in systems]
    assert [result.tasks["piqa"].scores.estimate.value for result in results] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(("know", "way"), [(3, "text"), (NUM_ROWS - 10, "letter")])
def test_a_few_known_letters_are_not_enough(vocabularies, folder, know, way):
    """Of the letters that it does not know, half of the first ones are right: the letters are equal."""
    (task,) = Members(vocabularies, folder, bpe=know).settle(find(folder))
    assert task.score_by == way


def test_the_sample_is_the_same_for_every_limit_and_part_of_the_questions(vocabularies, folder):
    asked = []
    for limit in (TRIAL_SIZE, TRIAL_SIZE + 5, NUM_ROWS, None):
        (task,) = find(folder, limit=limit)
        asked.append({item.prompt for item in task._sample})
        assert asked[-1] <= {item.prompt for item in task._items}
        assert len(task._items) == (limit or NUM_ROWS)
    assert all(sample == asked[0] and len(sample) == TRIAL_SIZE for sample in asked)


@pytest.mark.parametrize(("limit", "is_tried"), [(1, False), (4, False), (5, True)])
def test_where_all_right_could_be_luck_nothing_is_tried(vocabularies, folder, limit, is_tried):
    members = Members(vocabularies, folder, bpe=NUM_ROWS)
    (task,) = members.settle(find(folder, limit=limit))
    assert task.score_by == ("letter" if is_tried else "text")
    assert bool(members.opened) is is_tried
    assert (f"{limit} questions are too few to tell letters from guessing" in task.about) is not is_tried


@pytest.mark.parametrize("way", ["letter", "text"])
def test_what_is_asked_for_needs_no_trial(vocabularies, folder, way):
    members = Members(vocabularies, folder)
    tasks = find(folder, limit=6, score_by=way)
    assert count_trial_requests(tasks) == 0
    assert members.settle(tasks)[0].score_by == tasks[0].score_by == way
    assert not members.opened
    scores = tasks[0].run(Runner(members.open(members.config), RequestCache()))
    assert (scores.estimate.value == 1.0) is (way == "text")


def test_a_task_that_is_not_settled_is_not_run(vocabularies, folder):
    members = Members(vocabularies, folder)
    (task,) = find(folder)
    with pytest.raises(ConfigError, match=r"task 'piqa' is scored by letter or by text .* settle_tasks first"):
        task.run(Runner(members.open(members.config), RequestCache()))
    assert not members.num_passes


def test_other_tasks_stay_as_they_are(vocabularies, folder):
    members = Members(vocabularies, folder)
    tasks = [*find_tasks(["capitals"], limit=1), *find(folder, in_chat=True)]
    assert members.settle(tasks) == tasks and not members.opened
    assert [task.score_by for task in tasks] == [None, None]


def test_a_member_that_cannot_write_the_letters_is_no_better_than_chance(folder):
    member = ScriptedMember(load_toy("unigram without bytes"), ["the dog"])
    config = EnsembleConfig(members=(member.name,))
    cannot = not member.vocabulary.can_express(" A")
    (task,) = settle_tasks(
        find(folder),
        list_members(config, [member.name]),
        lambda given: Ensemble([member], given),
        RequestCache(),
        print,
    )
    assert cannot and task.score_by == "text"
    assert f"{member.name} alone could not be asked: " in task.about and "cannot express" in task.about


def test_a_member_that_fails_ends_the_trial(vocabularies, folder):
    members = Members(vocabularies, folder)

    def fail(tokens):
        raise RuntimeError("out of memory")

    members.members["bpe"].before_pass = fail
    with pytest.raises(MemberError, match="out of memory"):
        members.settle(find(folder))


@pytest.mark.parametrize(("num_right", "is_above"), [(25, False), (26, True), (40, True)])
def test_above_chance_is_what_guessing_reaches_in_less_than_one_of_twenty(num_right, is_above):
    trial = LetterTrial("a alone", num_right, (0.5,) * 40)
    tail = sum(math.comb(40, k) for k in range(num_right, 41)) / 2**40
    assert trial.p_value == pytest.approx(tail)
    assert trial.is_above_chance is is_above


def test_a_letter_or_text_in_a_chat_is_refused(folder):
    with pytest.raises(ConfigError, match="in a chat an option is named, not scored: leave out score_by='text'"):
        find(folder, in_chat=True, score_by="text")


def test_members_are_lent_under_the_name_that_they_have_when_loaded_alone():
    with Ensemble.starter(["llama", "neox"]) as ensemble:
        lend = lend_members(ensemble)
        for system in list_members(ensemble.config, ensemble.member_names):
            with lend(system.config) as borrowed, Ensemble.from_config(system.config) as loaded:
                assert borrowed.identity == loaded.identity
                assert borrowed.score("The", " end").logprob == pytest.approx(loaded.score("The", " end").logprob)
        assert ensemble.score("The", " end").num_tokens > 0
