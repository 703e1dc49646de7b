"""The code in the README and in docs/ runs, with the starter models in the place of models from the hub."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deepen_llm import Ensemble
from deepen_llm.starter import model_paths

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCKS = [
    pytest.param(code, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, code in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")))
]


@pytest.mark.usefixtures("event_loop_of_its_own")
@pytest.mark.parametrize("code", BLOCKS)
def test_code_of_the_docs_runs(code, monkeypatch, capsys):
    """Hub names become the bundled models' folders; everything else runs as it is printed."""
    monkeypatch.chdir(ROOT)
    paths = [str(path) for path in model_paths()]
    for name, path in zip(dict.fromkeys(re.findall(r'"([\w.-]+/[\w.-]+)"', code)), paths, strict=False):
        if not (ROOT / name).exists():
            code = code.replace(f'"{name}"', f'"{path}"')
    scope: dict[str, object] = {}
    exec(compile(code, "docs", "exec", dont_inherit=True), scope)
    for value in scope.values():
        if isinstance(value, Ensemble):
            value.close()


def test_the_readme_has_code_to_run():
    assert len(BLOCK.findall(PAGES[0].read_text(encoding="utf-8"))) >= 3


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_inside_the_repository_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target
