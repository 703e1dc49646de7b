"""Writing an `ensemble.yaml`: a configuration as a file that `EnsembleConfig.load` reads back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deepen_llm.config import EnsembleConfig, MemberConfig


def write_ensemble(path: Path, config: EnsembleConfig, comment: str = "") -> None:
    """Write a configuration, models in folders with their whole path.

    The settings of fusion are written in full, so that the file keeps its meaning where a default changes; of the
    members, what was set.

    Args:
        path: The file; it is written over.
        config: What it will hold.
        comment: Lines to put before it.
    """
    import yaml

    values: dict[str, Any] = {
        "members": [_describe(member) for member in config.members],
        "main": config.main,
        "weights": list(config.weights) if isinstance(config.weights, tuple) else config.weights,
        "fusion": config.fusion.model_dump(mode="json"),
        **config.model_dump(mode="json", exclude={"members", "main", "weights", "fusion"}),
    }
    head = "".join(f"# {line}\n" for line in comment.splitlines())
    body = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)
    path.write_text(head + body, encoding="utf-8")


def _describe(member: MemberConfig) -> dict[str, Any]:
    values = member.model_dump(mode="json", exclude_unset=True)
    for name in ("model", "tokenizer"):
        place = values.get(name)
        if place is not None and Path(place).exists():
            values[name] = str(Path(place).resolve())
    return values
