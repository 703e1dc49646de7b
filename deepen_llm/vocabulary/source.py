"""What a vocabulary asks of a tokenizer, whatever library it comes from."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

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

    def render_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        template: str | None,
        variables: Mapping[str, Any],
        *,
        max_characters: int,
        timeout_s: float | None,
    ) -> str:
        """The messages as one text.

        Args:
            messages: Each with `role` and `content`: a text, or a list of blocks `{"type": "text", "text": ...}`.
            template: A Jinja template in place of the tokenizer's own.
            variables: What the template sees besides; `add_generation_prompt` says whether the beginning of an answer
                comes last.
            max_characters: A text longer than that is of no use.
            timeout_s: Seconds that the caller has left; None: as long as it takes.

        Raises:
            TemplateOverrunError: The template takes too much time.
            TimeoutError: The caller's time was over.
            Exception: Whatever else the template raises; it is passed on as a `PromptError`.
        """
