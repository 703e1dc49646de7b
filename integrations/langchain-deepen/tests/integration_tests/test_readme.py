"""The code of the README runs as it stands."""

import re
from pathlib import Path

import pytest

from deepen_llm import Ensemble

README = Path(__file__).parents[2] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_the_readme_shows_code():
    assert len(BLOCKS) == 4


@pytest.mark.parametrize("block", BLOCKS)
def test_the_readmes_code_runs(block, capsys, monkeypatch, ensemble):
    monkeypatch.setattr(Ensemble, "starter", lambda: ensemble)
    exec(compile(block, str(README), "exec"), {})
    assert capsys.readouterr().out.strip()
