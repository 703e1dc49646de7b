"""Fusion methods: pure tensor mathematics that turns the members' distributions into one."""

from deepen_llm.fusion.base import FusionMethod

__all__ = ["FusionMethod"]
