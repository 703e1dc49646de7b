"""What the benchmarks have in common: several members, and figures that also go to a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deepen_llm.errors import ConfigError

if TYPE_CHECKING:
    from deepen_llm.ensemble import Ensemble

JsonFile = Annotated[Path | None, typer.Option("--json", help="Write the figures to this file as well.")]


def write_figures(file: Path | None, values: dict[str, Any], indent: int = 2) -> None:
    """Write JSON values, with the machine that they were measured on, where a file was asked for."""
    if file is None:
        return
    from deepen_llm.machine import describe_machine

    whole = {"machine": describe_machine(), **values}
    file.write_text(json.dumps(whole, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8")


def check_several(ensemble: Ensemble) -> None:
    """Refuse an ensemble of one.

    Raises:
        ConfigError: There is nothing to fuse.
    """
    if len(ensemble.members) < 2:
        raise ConfigError(f"a benchmark of an ensemble needs two members; got {len(ensemble.members)}: add a --model")
