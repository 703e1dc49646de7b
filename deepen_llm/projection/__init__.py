"""A member's distribution projected onto the main model's tokens: how the text goes on, cut as its tokenizer would."""

from deepen_llm.projection.limits import ExpansionLimits
from deepen_llm.projection.projector import Projector

__all__ = ["ExpansionLimits", "Projector"]
