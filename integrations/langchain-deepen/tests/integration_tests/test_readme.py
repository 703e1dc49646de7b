"""The code of the README runs as it stands."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_the_readme_shows_code():
    assert len(BLOCKS) == 2


@pytest.mark.parametrize("block", BLOCKS)
def test_the_readmes_code_runs(block, capsys):
    names = {}
    exec(compile(block, str(README), "exec"), names)
    assert capsys.readouterr().out.strip()
    (names.get("llm") or names["chat"]).ensemble.close()
