"""A member's vocabulary: every token as its exact bytes, and text as that member's own tokenizer cuts it."""

from deepen_llm.vocabulary.matching import common_strings, common_tokens
from deepen_llm.vocabulary.source import TokenizerSource
from deepen_llm.vocabulary.vocabulary import EncodedText, Vocabulary

__all__ = ["EncodedText", "TokenizerSource", "Vocabulary", "common_strings", "common_tokens"]
