from __future__ import annotations

import json
import math

import pytest

from deepen_llm import Ensemble
from deepen_llm.errors import ConfigError, PromptError, VocabularyError
from deepen_llm.evaluation.request_cache import RequestCache
from deepen_llm.evaluation.runner import Runner
from deepen_llm.evaluation.tasks import GROUPS, TASK_FILES, StarterTask, TextTask, answers_question, find_tasks
from deepen_llm.starter import TASKS
from deepen_llm.starter.tasks import Question, load_task
from deepen_llm.testing import ScriptedMember
from tests.vocabularies import load_toy

STORIES = ["the cat sat on the mat.", "a dog ran home. then", "one two three four"]
ASKED = [
    ("the cat sat on", " the mat"),
    ("a dog ran", " home"),
    ("a dog ran", " away"),
    ("one two", " three four"),
    ("the cat", " sat on the mat"),
]
STORY = "Once a fox ran home. The hens slept.\n"


@pytest.fixture
def story(tmp_path):
    path = tmp_path / "story.txt"
    path.write_text(STORY, encoding="utf-8")
    return path


def test_groups_stand_for_their_tasks_and_a_task_named_twice_is_done_once():
    assert GROUPS == {"paper": TASK_FILES, "starter": TASKS}
    names = [task.name for task in find_tasks(["reading", "starter"], limit=1)]
    assert sorted(names) == sorted(TASKS) and names[0] == "reading"


def test_an_unknown_task_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"no task 'mmul': the known ones are arc_challenge, .*, reading, the groups"):
        find_tasks(["mmul"])


def test_a_task_file_of_ones_own_is_given_by_its_path(tmp_path, make_ensemble):
    (tmp_path / "rivers.jsonl").write_text(json.dumps({"q": "Which?", "a": "Nile"}) + "\n")
    (tmp_path / "rivers.yaml").write_text(
        "{task: rivers, about: Rivers., kind: short, local: {file: rivers.jsonl}, max_new_tokens: 8,\n"
        " fields: {question: q, answers: '[a]'}, prompt: 'Question: {{ question }} Answer:',\n"
        " target: '{{ answers[0] }}'}"
    )
    (task,) = find_tasks([str(tmp_path / "rivers.yaml")], data_folder=tmp_path)
    ensemble = make_ensemble(["Question: Which? Answer: Nile"], kinds=("bpe",))
    assert (task.name, task.num_requests) == ("rivers", 1)
    assert task.run(Runner(ensemble, RequestCache())).values == (1.0,)


def test_starter_tasks_are_not_asked_in_a_chat():
    with pytest.raises(ConfigError, match="'reading' is not asked in a chat"):
        find_tasks(["reading"], in_chat=True)


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_answers_are_graded_in_the_order_of_the_questions_whatever_the_batches_are(make_ensemble, batch_size):
    questions = [Question("stories", prompt, answer, (answer,), 64, (".",)) for prompt, answer in ASKED]
    ensemble, told = make_ensemble(STORIES, max_batch_size=batch_size), []
    scores = StarterTask("stories", questions).run(Runner(ensemble, RequestCache(), told.append))
    assert scores.values == (1.0, 1.0, 0.0, 1.0, 1.0)
    assert sum(told) == len(ASKED)


def test_a_question_that_cannot_be_asked_is_an_error(make_ensemble):
    task = StarterTask("bad", [Question("bad", "\ud800", "", ("",), 8)])
    with pytest.raises(PromptError):
        task.run(Runner(make_ensemble(STORIES), RequestCache()))


def test_the_first_line_is_graded_and_case_and_full_stop_do_not_matter():
    question = load_task("capitals")[0]
    assert answers_question(question, f" {question.answer}\nmore")
    assert answers_question(question, question.answer.upper() + ".")
    assert not answers_question(question, f"not {question.answer}")
    assert not answers_question(question, "")


def test_of_worked_arithmetic_the_last_number_of_the_first_line_counts():
    question = load_task("arithmetic")[0]
    assert answers_question(question, f" 1+1=2, so {question.answer}\n99")
    assert not answers_question(question, f" {question.answer}, so 1")
    assert not answers_question(question, " I do not know")


def test_every_right_answer_of_the_starter_tasks_is_told_from_every_other():
    for task in ("capitals", "elements"):
        questions = load_task(task)
        answers = {question.answer for question in questions}
        for question in questions[:40]:
            assert [answer for answer in answers if answers_question(question, answer)] == [question.answer]


def test_bits_per_byte_are_the_scores_of_the_text(story, make_ensemble):
    ensemble = make_ensemble([STORY])
    task = TextTask.load(story, ensemble.members)
    scores = task.run(Runner(ensemble, RequestCache()))
    logprob = ensemble.score("Once", STORY.strip().removeprefix("Once")).logprob
    assert scores.values == (-logprob / math.log(2),)
    assert scores.sizes == (len(STORY.strip()) - len("Once"),)
    assert not scores.is_share


def test_a_text_is_split_alike_for_a_member_alone_and_for_all(story, make_ensemble):
    story.write_text(STORY * 30, encoding="utf-8")
    ensemble = make_ensemble([STORY], context_length=64)
    task = TextTask.load(story, ensemble.members)
    alone = make_ensemble([STORY], kinds=("sentencepiece",), context_length=64)
    sizes = [task.run(Runner(each, RequestCache())).sizes for each in (ensemble, alone)]
    assert sizes[0] == sizes[1] and len(sizes[0]) > 1


def test_a_main_model_that_cannot_express_the_text_refuses_before_anything_is_asked(story):
    member = ScriptedMember(load_toy("unigram without bytes"), [STORY])
    story.write_text("Once there was a \N{SNOWMAN} here.", encoding="utf-8")
    with Ensemble([member]) as ensemble:
        task = TextTask.load(story, ensemble.members)
        with pytest.raises(VocabularyError, match="cannot express '\N{SNOWMAN}'"):
            task.run(Runner(ensemble, RequestCache()))
        (note,) = task.describe_limits(ensemble.members)
    assert not member.passes
    assert member.name in note and "cannot express all of the text" in note


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read: No such file"), (b"\xff\xfe", "is not UTF-8"), (b"word", "at least two words")],
)
def test_a_file_that_is_no_text_is_refused(tmp_path, make_ensemble, content, message):
    if content is not None:
        (tmp_path / "text.txt").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        TextTask.load(tmp_path / "text.txt", make_ensemble([STORY]).members)
