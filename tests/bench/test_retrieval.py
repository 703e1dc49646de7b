from __future__ import annotations

import pytest

from deepen_llm import Ensemble, EnsembleConfig
from deepen_llm.bench.retrieval import (
    ENSEMBLE,
    RetrievalAnswer,
    RetrievalBenchmark,
    RetrievalResult,
    answer_question,
    collect_results,
    list_systems,
)
from deepen_llm.bench.retrieval_documents import RetrievalQuestion, make_documents
from deepen_llm.bench.retrieval_pipelines import Reply
from deepen_llm.evaluation import System, mean_share
from deepen_llm.starter import model_paths

pytestmark = pytest.mark.usefixtures("event_loop_of_its_own")

QUESTION = RetrievalQuestion("What does Orin play?", "piano", "Orin-1", ("harp",))
ONE = System("one", EnsembleConfig(members=("one",)), is_member=True)
TWO_STARTERS = EnsembleConfig(members=tuple(str(path) for path in model_paths()[:2]))


def answered(**values):
    given = {"question": "?", "expected": "x", "text": "x", "is_right": True, "is_found": True}
    return RetrievalAnswer(**{**given, "first_s": 0.1, "total_s": 0.2, **values})


def test_time_runs_from_before_retrieval_to_the_first_text_and_to_the_end(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("deepen_llm.bench.retrieval.time.perf_counter", lambda: now[0])

    def pipeline(question):
        now[0] += 1.0

        def pieces():
            for piece in ("", " pi", "ano"):
                now[0] += 10.0
                yield piece

        return Reply(("Other-1", "Orin-1"), pieces())

    answer = answer_question(pipeline, QUESTION)
    assert (answer.first_s, answer.total_s) == (21.0, 31.0)
    assert answer.text == " piano" and answer.is_right and answer.is_found
    assert (answer.question, answer.expected) == ("What does Orin play?", "piano")


def test_an_empty_answer_about_a_document_that_was_not_found_is_neither_right_nor_early():
    answer = answer_question(lambda question: Reply(("Other-1",), iter([""])), QUESTION)
    assert answer.first_s is None
    assert not answer.is_right and not answer.is_found


def test_a_result_has_shares_and_medians():
    answers = (
        answered(),
        answered(is_right=False, first_s=0.3, total_s=0.9),
        answered(is_right=False, is_found=False, first_s=None, total_s=0.4),
        answered(is_found=False, first_s=0.2, total_s=0.3),
    )
    result = RetrievalResult("langchain", ONE, answers)
    assert result.scores.values == (1.0, 0.0, 0.0, 1.0)
    assert (result.hit_rate, result.accuracy_where_found) == (0.5, 0.5)
    assert result.first_s == pytest.approx(0.2) and result.total_s == pytest.approx(0.35)


def test_where_nothing_was_found_or_said_there_is_no_figure():
    result = RetrievalResult("langchain", ONE, (answered(is_found=False, first_s=None),))
    assert result.accuracy_where_found is None and result.first_s is None


def test_members_stand_alone_before_the_ensemble_and_a_single_one_for_itself():
    systems = list_systems(TWO_STARTERS.replace(weights=(0.7, 0.3), main=1), ["a", "b"])
    assert [system.name for system in systems] == ["a alone", "b alone", ENSEMBLE]
    assert [len(system.config.members) for system in systems] == [1, 1, 2]
    assert systems[-1].config.weights == (0.7, 0.3)
    assert [system.name for system in list_systems(EnsembleConfig(members=("a",)), ["a"])] == ["a alone"]


def test_results_are_collected_by_system_with_frameworks_in_the_place_of_tasks():
    right, wrong = answered(), answered(is_right=False)
    given = [RetrievalResult("langchain", ONE, (right, wrong)), RetrievalResult("llama-index", ONE, (right, right))]
    (collected,) = collect_results(given)
    assert collected.system is ONE
    assert {name: one.scores.values for name, one in collected.tasks.items()} == {
        "langchain": (1.0, 0.0),
        "llama-index": (1.0, 1.0),
    }
    assert mean_share(collected).value == 0.75


def test_every_system_answers_every_question_through_every_framework():
    documents, questions = make_documents(6, 4)
    benchmark = RetrievalBenchmark(documents, questions, ("langchain", "llama-index"))
    told, opened = [], []

    def open_it(config):
        opened.append(Ensemble.from_config(config))
        return opened[-1]

    results = list(benchmark.run(TWO_STARTERS, ["llama", "neox"], open_it, told.append))
    assert [(result.system.name, result.framework) for result in results] == [
        (name, framework)
        for name in ("llama alone", "neox alone", ENSEMBLE)
        for framework in ("langchain", "llama-index")
    ]
    assert all([one.question for one in r.answers] == [one.text for one in questions] for r in results)
    assert results[0].hit_rate == results[-2].hit_rate > 0  # retrieval does not depend on who answers
    assert len(told) == 6 * 4 and told[0] == "llama alone, langchain"
    assert all(ensemble.is_closed for ensemble in opened)
