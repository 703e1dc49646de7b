"""How much of the members' contexts a prompt takes, as one number by which frameworks can fit prompts. Loads no torch.

Members differ in their tokenizers and in how much they can read, so the tokens of none of them alone say whether a
prompt fits. The unit here is the tokens of the member with the narrowest context. A text counts as the largest share
that it takes of any context: where member i has one of `c_i` tokens and makes `n_i` of the text, that is
`max_i ceil(n_i * window / c_i)` out of `window = min_i c_i`. So a text fits into every context if and only if it fits
into the window by this count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, final

from deepen_llm.errors import PromptError

if TYPE_CHECKING:
    from deepen_llm.members.base import Member
    from deepen_llm.vocabulary import Vocabulary

_SHORTEST_CHAT = [{"role": "system", "content": "x"}, {"role": "user", "content": "x"}]


@final
class ContextMeter:
    """Counts what prompts take of the contexts of an ensemble's members."""

    def __init__(self, members: Sequence[Member]) -> None:
        """`members` are all those of the ensemble; of a prompt, who reads a source in an encoder takes only that."""
        self._members = [member for member in members if member.source_reader is None] or members

    @cached_property
    def window(self) -> int:
        """What a prompt and its answer can take together."""
        return min(member.context_length for member in self._members)

    def count_text(self, text: str) -> int:
        """What a text takes as a part of a prompt."""
        return self._largest_share(lambda vocabulary: len(vocabulary.encode(text)))

    def count_prompt(self, text: str) -> int:
        """What a text takes as a whole prompt, with what the tokenizers put before one."""
        return self._largest_share(lambda vocabulary: len(vocabulary.prefix_ids) + len(vocabulary.encode(text)))

    def count_chat(
        self, messages: Sequence[Mapping[str, str]], *, chat_template_kwargs: Mapping[str, Any] | None = None
    ) -> int:
        """What messages take in the members' chat templates, at most, up to where the answer begins; 0 for none.

        Frameworks also count parts of a conversation, and turn them round to count from the end. So both orders count,
        and where a template refuses both, each message as a chat of its own.

        `chat_template_kwargs` are those of `Ensemble.chat`.

        Raises:
            PromptError: Messages that are not roles and texts, or a member without a template.
        """
        options = chat_template_kwargs or {}
        return self._largest_share(lambda vocabulary: _chat_length(vocabulary, messages, options)) if messages else 0

    @cached_property
    def around_chat(self) -> int:
        """What templates put around messages of the system and the user. Raises what `count_chat` does."""
        return self.count_chat(_SHORTEST_CHAT)

    @cached_property
    def around_prompt(self) -> int:
        """What tokenizers put before a prompt."""
        return self.count_prompt("")

    def _largest_share(self, count: Callable[[Vocabulary], int]) -> int:
        """The largest share of a context, in tokens of the narrowest one, rounded up."""
        return max(-(-count(member.vocabulary) * self.window // member.context_length) for member in self._members)


def _chat_length(
    vocabulary: Vocabulary, messages: Sequence[Mapping[str, str]], chat_template_kwargs: Mapping[str, Any]
) -> int:
    """How many tokens the messages are for one member, in the order that takes more."""
    from deepen_llm.requests.messages import encode_chat
    from deepen_llm.vocabulary.chat import check_messages

    check_messages(messages)
    encode = partial(encode_chat, vocabulary, chat_template_kwargs=chat_template_kwargs)
    lengths = []
    for order in (messages, messages[::-1]) if len(messages) > 1 else (messages,):
        with suppress(PromptError):
            lengths.append(len(encode(order).ids))
    if lengths:
        return max(lengths)
    alone = [[{"role": "user", "content": message["content"]}] for message in messages]
    return sum(len(encode(one).ids) for one in alone)
