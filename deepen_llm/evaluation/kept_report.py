"""The report that a folder holds already, and whether a new run would lose anything of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deepen_llm.errors import ConfigError
from deepen_llm.evaluation.systems import System
from deepen_llm.evaluation.tasks import Task, TextTask
from deepen_llm.text_file import read_text

FILES = ("report.md", "report.json", "report.svg")


def check_nothing_lost(
    folder: Path, settings: dict[str, Any], tasks: Sequence[Task], systems: Sequence[System]
) -> None:
    """Refuse to write over the report of another run. One that holds no less, such as a run that goes on, may.

    Args:
        folder: Where the report goes.
        settings: What was asked for, by name, as in `write_json`.
        tasks: What is to be done.
        systems: Who does it.

    Raises:
        ConfigError: It says how the other run differs.
    """
    if not any((folder / name).exists() for name in FILES):
        return
    if difference := _find_difference(folder / "report.json", settings, tasks, systems):
        raise ConfigError(
            f"{str(folder)!r} holds the report of another run ({difference}): give another --output, or --overwrite "
            "to replace it"
        )


def _find_difference(file: Path, settings: dict[str, Any], tasks: Sequence[Task], systems: Sequence[System]) -> str:
    """What a report has that the new one would not; empty where it has nothing."""
    try:
        kept = json.loads(read_text(file, "the report"))
        had = {name: value for name, value in kept["settings"].items() if value is not None}
        had_tasks, had_systems = dict(kept["tasks"]), [result["name"] for result in kept["results"]]
    except (ConfigError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return "its report.json cannot be read"
    asked = {name: value for name, value in json.loads(json.dumps(settings)).items() if value is not None}
    for name in {**had, **asked}:
        if had.get(name) != asked.get(name):
            return f"{name}: {had.get(name, 'none')} there, {asked.get(name, 'none')} now"
    for task in tasks:
        if isinstance(task, TextTask) and had_tasks.get(task.name, task.about) != task.about:
            return "another text"
    for what, names, new in (
        ("task", had_tasks, [t.name for t in tasks]),
        ("system", had_systems, [s.name for s in systems]),
    ):
        if lost := [name for name in names if name not in new]:
            return f"also of the {what} {', '.join(map(str, lost))}"
    return ""
