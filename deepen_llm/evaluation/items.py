"""The questions of a task file, read from a local folder or from the hub, as prompts that are ready to be asked."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepen_llm.errors import ConfigError, MissingDependencyError
from deepen_llm.evaluation.task_file import TaskFile
from deepen_llm.text_file import read_text

SEED = 20240415
BETWEEN_EXAMPLES = "\n\n"


@dataclass(frozen=True)
class Item:
    """One question. `accepted` are right answers; of a choice there are options instead."""

    prompt: str
    accepted: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    """The options' texts, without space around them; one may be empty."""
    right_option: int = 0
    """The right option's position."""
    text_prompt: str = ""
    """What is asked where options are scored by their text; empty where the task does not do that."""

    @property
    def num_options(self) -> int:
        """How many options there are; 0 where the answer is free."""
        return len(self.options)


def load_items(task: TaskFile, data_folder: Path | None, limit: int | None = None) -> list[Item]:
    """The questions of a task, or a sample of them: the same for the same limit, part of that for a higher one.

    Args:
        task: What is asked.
        data_folder: Where the files lie; None asks the hub.
        limit: How many questions; None takes all, in their own order.

    Raises:
        ConfigError: A file that is not there or not JSON lines, or a row without what the task needs.
        MissingDependencyError: The hub is wanted and `datasets` is not installed.
    """
    rows = _read_rows(task, data_folder, examples=False)
    numbered = list(enumerate(rows, start=1))
    if limit is not None and limit < len(numbered):
        numbered = random.Random(SEED).sample(numbered, len(numbered))[:limit]  # noqa: S311  # nothing secret
    source = str(_path(task.local.file, data_folder)) if data_folder else _hub_name(task)
    is_hub = data_folder is None
    examples = [dict(example) for example in task.examples]
    if task.num_examples:
        example_rows = _read_rows(task, data_folder, examples=True)
        examples += [task.read_fields(row, f"{source} (examples)", is_hub=is_hub) for row in example_rows]
    return [
        _make_item(task, task.read_fields(row, f"{source}:{number}", is_hub=is_hub), examples, f"{source}:{number}")
        for number, row in numbered
    ]


def _make_item(task: TaskFile, fields: dict[str, Any], examples: Sequence[dict[str, Any]], where: str) -> Item:
    """One question, with the examples before it."""
    shown = [
        example
        for example in examples
        if task.examples_like is None or example.get(task.examples_like) == fields.get(task.examples_like)
    ]
    shown = shown[: task.num_examples] if task.num_examples else shown
    prompt = _write_prompt(task, fields, shown)
    if task.kind == "choice":
        options, right = tuple(str(option).strip() for option in fields["choices"]), fields["gold"]
        if not isinstance(right, int) or not 0 <= right < len(options):
            raise ConfigError(f"{where}: gold must be the position of one of {len(options)} choices; got {right!r}")
        text_prompt = "" if task.score_by == "letter" else _write_prompt(task, fields, shown, by_text=True)
        return Item(prompt, options=options, right_option=right, text_prompt=text_prompt)
    accepted = fields["answers"] if task.kind == "short" else [str(fields["gold"])]
    if not isinstance(accepted, list) or not accepted or not all(isinstance(answer, str) for answer in accepted):
        raise ConfigError(f"{where}: answers must be a list of at least one text; got {accepted!r}")
    return Item(prompt, accepted=tuple(accepted))


def _write_prompt(
    task: TaskFile, fields: dict[str, Any], examples: Sequence[dict[str, Any]], *, by_text: bool = False
) -> str:
    """The introduction, the examples and the question."""
    parts = [
        task.write_introduction(fields, by_text=by_text),
        *(task.write_example(example, by_text=by_text) for example in examples),
        task.write_question(fields, by_text=by_text),
    ]
    return BETWEEN_EXAMPLES.join(part for part in parts if part)


def _read_rows(task: TaskFile, data_folder: Path | None, *, examples: bool) -> list[dict[str, Any]]:
    if data_folder is None:
        return _read_hub(task, examples=examples)
    name = task.local.examples_file if examples else task.local.file
    if name is None:
        raise ConfigError(f"task {task.task!r} takes examples from a file and names none: set local.examples_file")
    return read_json_lines(_path(name, data_folder), f"task {task.task!r}")


def _path(name: str, data_folder: Path) -> Path:
    return data_folder / name


def _hub_name(task: TaskFile) -> str:
    return task.hub.path if task.hub else task.task


def read_json_lines(path: Path, reader: str) -> list[dict[str, Any]]:
    """The objects of a JSON lines file.

    Raises:
        ConfigError: The file is not there, holds nothing, or a line is not an object; it names the path and the line.
    """
    try:
        text = read_text(path, f"the questions of {reader}")
    except ConfigError as error:
        raise ConfigError(
            f"{error}: give the folder that holds {path.parent.name}/{path.name}, or no folder to ask the hub"
        ) from error
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{path}:{number} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise ConfigError(f"{path}:{number} must be an object; got {type(row).__name__}")
        rows.append(row)
    if not rows:
        raise ConfigError(f"{str(path)!r} holds no questions")
    return rows


def _read_hub(task: TaskFile, *, examples: bool) -> list[dict[str, Any]]:
    """The rows of a split on the hub, kept in the cache of `datasets`."""
    if task.hub is None:
        raise ConfigError(f"task {task.task!r} has no `hub` section: give a data folder that holds {task.local.file}")
    try:
        import datasets
    except ImportError as error:
        raise MissingDependencyError("tasks from the hub need datasets: pip install 'deepen-llm[eval]'") from error
    split = task.hub.examples_split if examples else task.hub.split
    try:
        loaded = datasets.load_dataset(task.hub.path, task.hub.name, split=split)
    except Exception as error:  # whatever the network or the hub's libraries raise
        raise ConfigError(
            f"task {task.task!r} could not be loaded from {task.hub.path!r} on the hub: {error}; "
            "give a data folder to stay offline"
        ) from error
    return [dict(row) for row in loaded]
