"""Every promise of `docs/reliability.md` names tests, and these exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`((?:[\w-]+/)+test_\w+\.py)`: ((?:`test_\w+`(?:, )?)+)")


def read_named():
    """Every file with a test that the page says is in it."""
    return [(file, name) for file, names in NAMED.findall(PAGE) for name in re.findall(r"test_\w+", names)]


@pytest.mark.parametrize(("file", "name"), read_named())
def test_every_test_named_on_the_page_exists(file, name):
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}


def test_every_promise_names_a_test():
    before_figures = PAGE.split("## An hour under load")[0].splitlines()
    promises = [line for line in before_figures if re.match(r"\| (?!what is promised|---)", line)]
    assert len(promises) > 12
    assert all(NAMED.search(line) for line in promises)


def test_no_name_on_the_page_goes_unread():
    assert len(re.findall(r"`test_\w+`", PAGE)) == len(read_named())
