"""Reading a member's distribution as text: how the text goes on, cut as the main model's own tokenizer would cut it."""

from deepen_llm.reading.bounds import ReadingBounds
from deepen_llm.reading.reader import TextReader

__all__ = ["ReadingBounds", "TextReader"]
