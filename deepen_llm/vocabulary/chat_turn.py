"""What a chat template puts around an assistant's message, found by rendering a small conversation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

from deepen_llm.errors import PromptError
from deepen_llm.vocabulary.chat_renderer import ChatRefusedError, ChatRenderer, as_blocks
from deepen_llm.vocabulary.specials import SpecialFinder

ASKED, ANSWERED, ASKED_AGAIN = "\U000f0000a", "\U000f0001b", "\U000f0002c"
"""Texts that no template writes by itself, with nothing at their edges that it would trim."""


@final
@dataclass(frozen=True, slots=True)
class ChatTurn:
    """What stands before and after an assistant's text in a conversation that went on."""

    opening: str = ""
    """What a prompt ends with where an answer is to begin, from the user's text on."""
    lead: str = ""
    """White space between that and the assistant's text: the template lets the model write it."""
    end_id: int | None = None
    """The special token that follows the text; None where none does."""

    @classmethod
    def find(cls, renderer: ChatRenderer, finder: SpecialFinder) -> ChatTurn:
        """As the template shows it; nothing at all where it does not render such a conversation.

        What is wrong with it is told to whoever chats.
        """
        for one in (renderer, replace(renderer, form=as_blocks)):
            try:
                if (turn := cls._read(one, finder)) is not None:
                    return turn
            except ChatRefusedError:
                continue
            except PromptError:
                break  # it took too long, and would again
        return cls()

    @classmethod
    def _read(cls, renderer: ChatRenderer, finder: SpecialFinder) -> ChatTurn | None:
        asked, answered, again = (
            {"role": role, "content": text}
            for role, text in (("user", ASKED), ("assistant", ANSWERED), ("user", ASKED_AGAIN))
        )
        prompt = renderer.render([asked])
        talk = renderer.render([asked, answered, again])
        _, is_asked, opening = prompt.rpartition(ASKED)
        before, is_answered, after = talk.partition(ANSWERED)
        if not is_asked or not is_answered or ASKED_AGAIN not in after:
            return None
        between = before.removeprefix(prompt)
        is_lead = before.startswith(prompt) and not between.strip()
        sections = finder.split(after[: after.index(ASKED_AGAIN)])
        first = next((section for section in sections if section.special_id is not None or section.text.strip()), None)
        return cls(opening, between if is_lead else "", None if first is None else first.special_id)
