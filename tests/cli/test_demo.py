from __future__ import annotations

import sys

import pytest

from deepen_llm import EnsembleConfig
from deepen_llm.cli.chains import DOCUMENTS, LLAMA_INDEX_QUESTION, build_query_engine, show_langchain, show_llama_index
from deepen_llm.cli.demo import accuracy_table
from deepen_llm.evaluation import Cost, Scores, System, SystemResult, TaskResult
from deepen_llm.starter import MODEL_NAMES, TASKS

pytestmark = pytest.mark.usefixtures("event_loop_of_its_own")


def reached(name, rights, *, is_member):
    tasks = {
        f"task{i}": TaskResult(Scores.of_grades([True] * right + [False] * (10 - right)), Cost.of([]))
        for i, right in enumerate(rights)
    }
    return SystemResult(System(name, EnsembleConfig(members=("a",)), is_member), tasks=tasks)


def test_the_demo_shows_every_system_every_task_and_both_frameworks(deepen):
    result = deepen("demo", "--limit", 1)
    assert result.exit_code == 0, result.stderr
    assert all(name in result.stdout for name in (*MODEL_NAMES, *TASKS, "ensemble", "1 questions", "mean"))
    assert "the best single member" in result.stdout
    assert "What is the capital of Japan?" in result.stdout
    assert LLAMA_INDEX_QUESTION in result.stdout
    assert "read in whitdale.txt" in result.stdout


def test_frameworks_that_are_not_installed_are_named_with_what_to_install(make_ensemble, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "langchain_deepen", None)
    monkeypatch.setitem(sys.modules, "llama_index.retrievers.bm25", None)
    ensemble = make_ensemble(["a story."])
    show_langchain(ensemble)
    show_llama_index(ensemble)
    printed = capsys.readouterr()
    assert "pip install langchain-deepen" in printed.err
    assert "pip install llama-index-llms-deepen llama-index-retrievers-bm25" in printed.err


def test_the_bundled_documents_answer_the_bundled_question(make_ensemble):
    engine = build_query_engine(make_ensemble(["a story."], context_length=2048))
    (found,) = engine.retrieve(LLAMA_INDEX_QUESTION)
    assert found.node.text == (DOCUMENTS / "whitdale.txt").read_text(encoding="utf-8").strip()
    assert "mayor of Whitdale is Villo" in found.node.text


def test_the_table_has_a_row_per_system_and_a_column_per_task():
    members = [reached(f"member{i}", rights, is_member=True) for i, rights in enumerate([(5, 5), (8, 2)])]
    table = accuracy_table([*members, reached("ensemble", (9, 9), is_member=False)])
    assert table.columns == ["system", "task0, 10 questions", "task1, 10 questions", "mean"]
    assert len(table.rows) == 3
