"""What the benchmarks have in common: several members, and figures that also go to a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deepen_llm.errors import ConfigError
from deepen_llm.text_file import check_writable, write_text

if TYPE_CHECKING:
    from deepen_llm.ensemble import Ensemble

JsonFile = Annotated[Path | None, typer.Option("--json", help="Write the figures to this file as well.")]


def check_figures_file(file: Path | None) -> None:
    """`check_writable` where a file was asked for. Raises the same."""
    if file is not None:
        check_writable(file, "--json")


def write_figures(file: Path | None, values: dict[str, Any], indent: int = 2) -> None:
    """Write JSON values, with the machine that they were measured on, where a file was asked for."""
    if file is None:
        return
    from deepen_llm.machine import describe_machine

    whole = {"machine": describe_machine(), **values}
    write_text(file, json.dumps(whole, indent=indent, ensure_ascii=False) + "\n", "--json")


def check_several(ensemble: Ensemble) -> None:
    """Refuse an ensemble of one.

    Raises:
        ConfigError: There is nothing to fuse.
    """
    if len(ensemble.members) < 2:
        raise ConfigError(f"a benchmark of an ensemble needs two members; got {len(ensemble.members)}: add a --model")
