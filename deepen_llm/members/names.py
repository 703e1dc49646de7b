"""What members are called: in errors, in traces, and where one of them is chosen."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count
from pathlib import Path

from deepen_llm.config import MemberConfig


def member_name(config: MemberConfig) -> str:
    """The name that was given, or else the last part of the folder or hub name."""
    return config.name or Path(config.model).name


def name_members(configs: Iterable[MemberConfig]) -> list[MemberConfig]:
    """The same members, those whose name is taken already told apart by a number: "gpt2", "gpt2#2", "gpt2#3".

    They are named before they are loaded, so that whatever a member is made of knows it by this name.
    """
    taken: set[str] = set()
    named: list[MemberConfig] = []
    for config in configs:
        name, numbers = member_name(config), count(2)
        while name in taken:
            name = f"{member_name(config)}#{next(numbers)}"
        taken.add(name)
        named.append(config if name == member_name(config) else config.replace(name=name))
    return named
