"""Structured answers: from a JSON schema, a regular expression or a grammar to the tokens that may come next."""

from deepen_llm.structure.compiler import StructureCompiler
from deepen_llm.structure.constraint import Constraint, Room

__all__ = ["Constraint", "Room", "StructureCompiler"]
