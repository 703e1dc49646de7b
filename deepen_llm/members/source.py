"""What a member with an encoder makes of a prompt: the encoder reads a part, and the decoder writes the answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from deepen_llm.errors import ContextLengthError, PromptError, quote
from deepen_llm.vocabulary import EncodedText, Vocabulary
from deepen_llm.vocabulary.chat import check_text


@final
@dataclass(frozen=True)
class SourceReader:
    """Which part of a prompt is the source, and the tokens around it."""

    vocabulary: Vocabulary
    prefix_ids: tuple[int, ...]
    """What comes before every source, such as its language."""
    suffix_ids: tuple[int, ...]
    """What comes after it: an end-of-sequence, mostly."""
    start_ids: tuple[int, ...]
    """From what the decoder begins: its start token, and a target language where one is asked for."""
    max_tokens: int
    """The most tokens that the encoder reads."""
    pattern: re.Pattern[str] | None = None
    """Its last match in the prompt has the source as its one group; None takes the whole prompt."""
    before: str = ""
    """Text that the encoder reads before a source: an instruction, say."""
    after: str = ""
    """Text that it reads after one."""

    def find(self, prompt: str) -> str:
        """The source in a prompt.

        Raises:
            PromptError: The pattern matches nowhere.
        """
        if self.pattern is None:
            return prompt
        found = list(self.pattern.finditer(prompt))
        if not found or found[-1].group(1) is None:
            raise PromptError(
                f"source_pattern of member {self.vocabulary.name!r} must match the prompt; {self.pattern.pattern!r} "
                f"matches nothing in {quote(prompt)}: write the prompt so that it does, or name the source with "
                "SamplingParams(source=...)"
            )
        return found[-1].group(1)

    def encode(self, source: str) -> tuple[int, ...]:
        """What the encoder reads, in tokens; spaces around a source do not count.

        Raises:
            PromptError: An empty source, or half a character.
            ContextLengthError: It is more than the encoder reads.
        """
        stripped = check_text(source, "the source").strip()
        if not stripped:
            raise PromptError(
                f"the source must not be empty: member {self.vocabulary.name!r} reads it in its encoder; got "
                f"{quote(source)}: give at least one character"
            )
        return self.frame(self.vocabulary.encode(f"{self.before}{stripped}{self.after}"))

    def frame(self, ids: Sequence[int]) -> tuple[int, ...]:
        """Tokens of a text with those around them; without any, what the encoder reads where there is no source.

        Raises:
            ContextLengthError: They are more than the encoder reads.
        """
        framed = (*self.prefix_ids, *ids, *self.suffix_ids)
        if len(framed) > self.max_tokens:
            raise ContextLengthError(
                f"the source has {len(framed)} tokens for member {self.vocabulary.name!r}, whose encoder reads "
                f"{self.max_tokens}: shorten it, or name a part of the prompt with SamplingParams(source=...)"
            )
        return framed

    def begin(self, source: str, contents: Sequence[str], *, at_start: bool) -> EncodedText:
        """The prompt of the decoder: all of it fixed, and only the answer's text comes after it.

        Args:
            source: What the encoder reads.
            contents: What people wrote.
            at_start: Whether the answer is cut into tokens as the start of a text; otherwise it begins with a space of
                its own, as where it continues the prompt of another member.

        Raises what `encode` does.
        """
        num_fixed, source_ids = len(self.start_ids), self.encode(source)
        return EncodedText(self.start_ids, num_fixed, "", at_start, tuple(contents), source_ids=source_ids)
