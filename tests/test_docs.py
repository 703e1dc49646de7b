"""The code in the README and in docs/ runs, with the starter models in the place of models from the hub."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deepen_llm import Ensemble
from deepen_llm.starter import model_paths

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
READMES = sorted((ROOT / "integrations").glob("*/README.md"))
INSTALL = [
    "pip install torch",
    "pip install .",
    "pip install ./integrations/langchain-deepen",
    "pip install ./integrations/llama-index-llms-deepen",
]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCKS = [
    pytest.param(code, id=f"{page.stem}-{number}")
    for page in PAGES
    if page.stem != "members"  # its members are of kinds that need more than a model's folder: test_members_page.py
    for number, code in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")))
    if "import ray" not in code  # those run where there is a cluster: tests/members/ray
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


@pytest.mark.parametrize("page", [*PAGES, *READMES], ids=lambda page: f"{page.parent.name}-{page.stem}")
def test_links_inside_the_repository_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs" / "integrations.md"], ids=lambda page: page.stem)
def test_the_commands_to_install_are_the_same_in_readme_and_docs(page):
    assert read_install(page) == INSTALL


@pytest.mark.parametrize("page", READMES, ids=lambda page: page.parent.name)
def test_a_companions_readme_installs_the_core_and_then_itself(page):
    assert read_install(page) == [*INSTALL[:2], f"pip install ./integrations/{page.parent.name}"]


@pytest.mark.parametrize("page", [*PAGES, *READMES], ids=lambda page: f"{page.parent.name}-{page.stem}")
def test_no_page_installs_our_packages_by_a_name_that_is_on_no_index(page):
    assert not re.search(
        r"pip install [^\n`]*(?<!/)(deepen-llm|langchain-deepen|llama-index-llms-deepen)", page.read_text("utf-8")
    )


def read_install(page: Path) -> list[str]:
    """The commands of the page's first block that installs, without their comments."""
    block = re.search(r"^```\n(pip install .*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert block, f"{page} has no block that installs"
    return [line.split("#")[0].strip() for line in block[1].splitlines()]
