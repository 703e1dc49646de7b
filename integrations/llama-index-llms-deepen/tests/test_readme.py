"""The README's code runs, with the bundled models in place of the named ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from llama_index.core import Settings

from deepen_llm.starter import model_paths

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
NAMES = '["org/main-model", "org/other-model"]'


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning"
)  # LlamaIndex's agents look at deprecated attributes of pydantic
@pytest.mark.parametrize("code", BLOCKS, ids=["complete and stream", "query engine", "structured output", "agent"])
def test_the_code_runs(code, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "orin.txt").write_text("The lamp of Orin is green.", encoding="utf-8")
    (folder / "tava.txt").write_text("Tava works as a baker.", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Settings, "_tokenizer", None)
    variables = {}
    exec(code.replace(NAMES, repr([str(path) for path in model_paths()])), variables)
    variables["llm"].close()
    assert capsys.readouterr().out.strip()
