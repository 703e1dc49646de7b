"""The README's code runs as it is printed, from the root of a clone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from llama_index.core import Settings

ROOT = Path(__file__).parents[3]
README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def run_block(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run one block from the root of the clone, on the bundled models that it names."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(Settings, "_tokenizer", None)
    variables: dict[str, object] = {}
    exec(code, variables)
    variables["llm"].close()


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning"
)  # LlamaIndex's agents look at deprecated attributes of pydantic
@pytest.mark.parametrize("code", BLOCKS, ids=["complete and stream", "query engine", "structured output", "agent"])
def test_the_code_runs(code, monkeypatch, capsys):
    run_block(code, monkeypatch)
    assert capsys.readouterr().out.strip()


def test_the_first_block_prints_a_right_answer_a_streamed_one_and_its_usage_a_line_each(monkeypatch, capsys):
    run_block(BLOCKS[0], monkeypatch)
    whole, streamed, usage = capsys.readouterr().out.splitlines()
    assert whole.strip() == "Paris"
    assert streamed.strip() == "Nairobi"
    assert "completion_tokens" in usage


def test_the_question_of_the_query_engine_is_answered_from_the_documents(monkeypatch, capsys):
    run_block(BLOCKS[1], monkeypatch)
    assert capsys.readouterr().out.strip() == "Falmi"
