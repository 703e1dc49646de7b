"""LangChain LLM and chat model over a `deepen_llm` ensemble."""

from langchain_deepen._version import __version__
from langchain_deepen.chat_models import ChatDeepen
from langchain_deepen.llms import DeepenLLM

__all__ = ["ChatDeepen", "DeepenLLM", "__version__"]
