"""What a vocabulary asks of a tokenizer, whatever library it comes from."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from deepen_llm.vocabulary.segmenter import Segmenter
from deepen_llm.vocabulary.specials import SpecialFinder
from deepen_llm.vocabulary.tokens import Pieces


class TokenizerSource(Protocol):
    """A tokenizer that is only read, once, when a `Vocabulary` is made of it. A chat is rendered by it later, too."""

    @property
    def has_chat_template(self) -> bool:
        """Whether it has a chat template of its own."""

    def read_pieces(self, name: str) -> Pieces:
        """What its ids stand for.

        Args:
            name: What errors call the member.

        Raises:
            VocabularyError: The tokens cannot be read as bytes.
        """

    def make_segmenter(self, special_ids: Collection[int], num_logits: int) -> Segmenter:
        """What cuts plain text into tokens: never into one of `special_ids` nor one beyond the logits."""

    def make_special_finder(self, special_texts: Mapping[int, str]) -> SpecialFinder:
        """What finds the special tokens, given as they are written, in a rendered chat, as the tokenizer does."""

    def render_chat(self, messages: Sequence[Mapping[str, str]], template: str | None) -> str:
        """The messages as one text, up to where the answer begins.

        Args:
            messages: Each with `role` and `content`.
            template: A Jinja template in place of the tokenizer's own.

        Raises:
            Exception: Whatever the template raises; it is passed on as a `PromptError`.
        """
