"""Own errors that LangChain has a name for too, so that middleware and fallbacks of LangChain recognise them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from langchain_core import exceptions

from deepen_llm.errors import ContextLengthError, PromptError


class ContextOverflowError(ContextLengthError, exceptions.ContextOverflowError):
    """A prompt that does not fit into a member's context: `deepen_llm`'s error and LangChain's in one."""


@contextmanager
def in_langchains_terms() -> Iterator[None]:
    """Raise own errors of the block as LangChain's as well, where it has them.

    Raises:
        ContextOverflowError: In place of `ContextLengthError`.
    """
    try:
        yield
    except ContextLengthError as error:
        raise ContextOverflowError(str(error)) from error


@contextmanager
def refusing_input() -> Iterator[None]:
    """What LangChain stumbles over in an input, in place of refusing it, is refused.

    Raises:
        PromptError: Something that is no text, no list of messages and no `PromptValue`.
    """
    try:
        yield
    except (TypeError, KeyError, AttributeError) as error:
        raise PromptError(
            f"the input must be a text, a list of messages or a PromptValue; LangChain could not read it: {error}"
        ) from error
