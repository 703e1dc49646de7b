"""LlamaIndex LLM over `deepen_llm`: two or more language models answer as one."""

from llama_index.llms.deepen.base import DeepenLLM
from llama_index.llms.deepen.errors import ContextOverflowError, PromptRefusedError

__all__ = ["ContextOverflowError", "DeepenLLM", "PromptRefusedError"]
