from __future__ import annotations

import math

import pytest

from deepen_llm.evaluation.harness import HarnessModel
from deepen_llm.evaluation.harness_tasks import is_best_option, is_right, run_task
from deepen_llm.evaluation.items import Item
from deepen_llm.evaluation.task_file import TASKS_FOLDER, TaskFile


def load(name):
    return TaskFile.load(TASKS_FOLDER / f"{name}.yaml")


def test_a_choice_goes_to_the_letter_that_the_models_find_most_probable(make_ensemble):
    prompts = ["Goal: rest\nA. sleep\nB. run\nAnswer:", "Goal: tire\nA. sleep\nB. run\nAnswer:"]
    model = HarnessModel.from_ensemble(make_ensemble([f"{prompts[0]} A", f"{prompts[1]} B"]))
    items = [
        Item(prompts[0], options=("sleep", "run"), right_option=0),
        Item(prompts[1], options=("sleep", "run"), right_option=0),
    ]
    assert run_task(model, load("piqa"), items) == (True, False)


def test_generated_answers_are_graded_by_the_tasks_kind(make_ensemble):
    texts = ["Question: Sum?\nAnswer: 2 + 3 = 5. The answer is 5.", "Question: Who?\nAnswer: The Fox"]
    model = HarnessModel.from_ensemble(make_ensemble(texts, kinds=("bpe",)))
    items = [Item("Question: Sum?\nAnswer:", accepted=(gold,)) for gold in ("5", "6")]
    assert run_task(model, load("gsm8k"), items) == (True, False)
    assert run_task(model, load("nq"), [Item("Question: Who?\nAnswer:", accepted=("a dog", "fox"))]) == (True,)


def test_grades_come_in_the_order_of_many_questions(make_ensemble):
    texts = [f"Question: {n}?\nAnswer: {n}" for n in range(12)]
    model = HarnessModel.from_ensemble(make_ensemble(texts, kinds=("bpe",), max_batch_size=3))
    items = [Item(f"Question: {n}?\nAnswer:", accepted=(str(n) if n % 3 else "none",)) for n in range(12)]
    assert run_task(model, load("triviaqa"), items) == tuple(bool(n % 3) for n in range(12))


def test_of_equal_letters_the_first_counts_and_impossible_ones_are_wrong():
    item = Item("", options=("sleep", "run"), right_option=0)
    assert is_best_option(item, [(-1.0, True), (-1.0, False)])
    assert not is_best_option(item, [(-math.inf, False), (-math.inf, False)])


def test_by_text_an_option_goes_on_from_a_prompt_that_does_not_list_it(make_ensemble):
    ensemble = make_ensemble(["Question: rest\nAnswer: sleep"], kinds=("bpe",))
    asked = []
    ensemble.score = lambda context, text, score=ensemble.score: asked.append((context, text)) or score(context, text)
    items = [
        Item("unused", options=("run a lot", "sleep"), right_option=right, text_prompt="Question: rest\nAnswer:")
        for right in (0, 1)
    ]
    assert run_task(HarnessModel.from_ensemble(ensemble), load("piqa"), items, score_by="text") == (False, True)
    assert sorted(asked) == [("Question: rest\nAnswer:", " run a lot"), ("Question: rest\nAnswer:", " sleep")]


def test_by_text_a_long_option_is_not_worse_for_its_length(make_ensemble):
    prompt, long = "Question: rest\nAnswer:", "sleep " * 6 + "well"
    ensemble = make_ensemble([f"{prompt} {long}"], kinds=("bpe",))
    scores = [
        (score.logprob, score.is_greedy) for score in ensemble.score_batch([(prompt, " q"), (prompt, f" {long}")])
    ]
    item = Item("", options=("q", long), right_option=1, text_prompt=prompt)
    assert is_best_option(item, scores, "text")
    assert run_task(HarnessModel.from_ensemble(ensemble), load("piqa"), [item], score_by="text") == (True,)


def test_an_option_without_text_is_never_chosen(make_ensemble):
    prompt = "Question: rest\nAnswer:"
    model = HarnessModel.from_ensemble(make_ensemble([f"{prompt} A"], kinds=("bpe",)))
    items = [
        Item("", options=options, right_option=right, text_prompt=prompt)
        for options, right in ((("", ""), 0), (("", "run"), 0), (("", "run"), 1))
    ]
    assert run_task(model, load("piqa"), items, score_by="text") == (False, False, True)


@pytest.mark.parametrize(("text", "right"), [("The answer is B.", True), ("A", False), ("", False)])
def test_in_a_chat_the_option_is_named_in_words(text, right):
    assert is_right(load("mmlu"), Item("", options=tuple("wxyz"), right_option=1), text) is right
