"""Fusion through the space of common tokens: DeePEn (arXiv 2404.12715, section 3)."""

from deepen_llm.fusion.relative.method import MemberSpace, RelativeFusion

__all__ = ["MemberSpace", "RelativeFusion"]
