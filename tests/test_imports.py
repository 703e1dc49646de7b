"""Imports run one way, as docs/structure.md says."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "deepen_llm"
ORDER = (
    *("errors", "garbage", "threads", "text_file", "results", "machine", "config", "vocabulary"),
    *("table_store", "members", "projection", "fusion", "structure", "weighting", "requests", "decoding"),
    *("assembly", "intake", "ensemble", "frontends", "testing", "starter", "compatibility", "evaluation"),
    *("calibration", "explain", "server", "bench", "cli"),
)


def room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(file: Path) -> set[str]:
    """The rooms that a file imports when it is itself imported; what a function imports later does not count."""
    nodes = [node for node in ast.parse(file.read_text(encoding="utf-8")).body if isinstance(node, ast.ImportFrom)]
    return {node.module.split(".")[1] for node in nodes if node.module and node.module.startswith("deepen_llm.")}


def test_every_room_has_its_place():
    rooms = {room_of(file) for file in PACKAGE.rglob("*.py")} - {"__init__", "__main__"}
    assert rooms == set(ORDER)


def test_no_import_runs_back_up():
    back = {
        f"{file.relative_to(PACKAGE)} imports {room}"
        for file in PACKAGE.rglob("*.py")
        if (here := room_of(file)) in ORDER
        for room in imports_of(file)
        if ORDER.index(room) > ORDER.index(here)
    }
    assert not back
