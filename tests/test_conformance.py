"""The table of docs/integrations.md that says what others get wrong: the tests that it names are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {
    "LC ": ROOT / "integrations/langchain-deepen/tests",
    "LI ": ROOT / "integrations/llama-index-llms-deepen/tests",
    "": ROOT / "tests",
}
PAGE = (ROOT / "docs/integrations.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.partition("## What others get wrong")[2].splitlines() if line.startswith("| ")][2:]
NAMED = re.findall(r"(LC |LI |)`([\w/]+\.py)::(\w+)`", "\n".join(ROWS))


def test_every_row_names_a_test():
    assert len(ROWS) >= 20
    assert all(re.search(r"`[\w/]+\.py::\w+`", row.split("|")[-2]) for row in ROWS)


@pytest.mark.parametrize(("where", "file", "name"), NAMED, ids=lambda part: part.strip() or "core")
def test_the_tests_that_it_names_are_there(where, file, name):
    source = (FOLDERS[where] / file).read_text(encoding="utf-8")
    assert re.search(rf"^\s*(async )?def {name}\(", source, flags=re.MULTILINE)
