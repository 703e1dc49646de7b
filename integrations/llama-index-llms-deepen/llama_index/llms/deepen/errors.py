"""Errors about prompts that LlamaIndex lets through.

Its response synthesizers take a ValueError for an answer that does not parse: they log it, pass over the text that was
asked about, and answer "Empty Response". So errors about prompts, which are ValueErrors in `deepen_llm`, are none here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from deepen_llm.errors import ContextLengthError, DeepenError, PromptError


class PromptRefusedError(DeepenError, RuntimeError):
    """A prompt or messages that the members cannot run: `deepen_llm`'s `PromptError`, which is its cause."""


class ContextOverflowError(PromptRefusedError):
    """A prompt that does not fit into a member's context: `deepen_llm`'s `ContextLengthError`."""


@contextmanager
def in_llama_indexes_terms() -> Iterator[None]:
    """Raise errors about prompts as those that LlamaIndex lets through.

    Raises:
        PromptRefusedError: In place of `PromptError`; a ContextOverflowError in place of `ContextLengthError`.
    """
    try:
        yield
    except ContextLengthError as error:
        raise ContextOverflowError(str(error)) from error
    except PromptError as error:
        raise PromptRefusedError(str(error)) from error
