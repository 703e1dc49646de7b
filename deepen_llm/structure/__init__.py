"""Structured answers: from a JSON schema, a regular expression or a grammar to the tokens that may come next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deepen_llm.structure.check import check_structure
from deepen_llm.structure.grammar import JSON_STYLE, narrow

if TYPE_CHECKING:
    from deepen_llm.structure.compiler import Structure, StructureCompiler
    from deepen_llm.structure.constraint import Constraint, Room

__all__ = ["JSON_STYLE", "Constraint", "Room", "Structure", "StructureCompiler", "check_structure", "narrow"]


def __getattr__(name: str) -> Any:
    """Import torch only for what follows an answer: to check and to describe one needs none."""
    if name in ("Structure", "StructureCompiler"):
        from deepen_llm.structure import compiler

        return getattr(compiler, name)
    if name in ("Constraint", "Room"):
        from deepen_llm.structure import constraint

        return getattr(constraint, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
