"""Prompts that come as tokens of the main model: as they are for it, as their text for every other member."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from deepen_llm.config import SamplingParams
from deepen_llm.errors import PromptError
from deepen_llm.members.guarded import GuardedMember
from deepen_llm.requests.deadline import Deadline
from deepen_llm.requests.sources import Written, encode_for_all
from deepen_llm.vocabulary import EncodedText, Vocabulary

LONG = 4096
"""Characters, or tokens, of prompts that an event loop does not take in itself."""


@final
@dataclass(frozen=True, slots=True)
class TokenPrompt:
    """A prompt in tokens of the main model, which reads exactly these: special tokens, a BOS too, where they stand."""

    ids: tuple[int, ...]


def encode_ids(
    members: Sequence[GuardedMember],
    main: int,
    prompt: TokenPrompt,
    deadline: Deadline,
    source: str | None = None,
) -> list[EncodedText]:
    """A prompt of tokens in every member's tokens.

    A member with the main model's vocabulary takes them as they are. The others read the text that they spell, behind
    what their own tokenizers put before one; special tokens at the beginning are the main model's own affair.

    Args:
        members: Whose tokens.
        main: Position of the main model.
        prompt: In its tokens.
        deadline: When it must be done.
        source: What encoders read; None for what they find.

    Raises:
        ConfigError: A source is named, and no member has an encoder.
        PromptError: No tokens, an id that the main model does not have, or, where others have to read them, tokens that
            are no text: special ones later on, a part of a character.
    """
    vocabulary = members[main].vocabulary
    check_ids(prompt.ids, vocabulary)
    num_special = next((n for n, i in enumerate(prompt.ids) if i not in vocabulary.special_ids), len(prompt.ids))
    text = spell(prompt.ids, vocabulary)
    own = EncodedText(prompt.ids, num_special, text, contents=(text,))
    if any(member.vocabulary.fingerprint != vocabulary.fingerprint for member in members):
        _check_text(prompt.ids[num_special:], vocabulary)

    def encode(other: Vocabulary) -> EncodedText:
        return own if other.fingerprint == vocabulary.fingerprint else _read(other, text)

    return encode_for_all(members, main, Written([text], text, source), encode, deadline)


def spell(ids: Sequence[int], vocabulary: Vocabulary) -> str:
    """The text of which a tokenizer makes these tokens, special ones left out; U+FFFD for part of a character."""
    text = vocabulary.join(ids).decode("utf-8", "replace")
    return text.removeprefix(" ") if vocabulary.adds_prefix_space else text


def num_unread(ids: Sequence[int], vocabulary: Vocabulary) -> int:
    """How many tokens to read at once before others can follow: special ones, and up to the end of a character."""
    for number in range(1, len(ids)):
        if ids[number - 1] not in vocabulary.special_ids or ids[number] not in vocabulary.special_ids:
            try:
                vocabulary.join(ids[:number]).decode("utf-8")
            except UnicodeDecodeError:
                continue
            return number
    return len(ids)


def takes_long(params: SamplingParams, prompts: Sequence[str | TokenPrompt]) -> bool:
    """Whether submitting may take long: a structure may have to be compiled, and a long text takes time."""
    sizes = (len(prompt) if isinstance(prompt, str) else len(prompt.ids) for prompt in prompts)
    return params.is_structured or sum(sizes) > LONG


def _read(vocabulary: Vocabulary, text: str) -> EncodedText:
    """The text as a prompt; one without any begins, for want of a BOS, from end-of-sequence, as between texts."""
    if not text and not vocabulary.prefix_ids and vocabulary.eos_ids:
        return EncodedText((min(vocabulary.eos_ids),), 1, "", contents=("",))
    return vocabulary.encode_prompt(text)


def check_ids(ids: Sequence[int], vocabulary: Vocabulary) -> None:
    """Refuse what are no tokens of a model. Raises `PromptError`, which says which of them."""
    if not ids:
        raise PromptError("a prompt of token ids must hold at least one; got none")
    for place, token_id in enumerate(ids):
        if not 0 <= token_id < len(vocabulary) or token_id in vocabulary.padded_ids:
            raise PromptError(
                f"token ids must be those of the model {vocabulary.name!r}, from 0 to {len(vocabulary) - 1}; got "
                f"{token_id} at place {place}"
            )


def _check_text(ids: Sequence[int], vocabulary: Vocabulary) -> None:
    if special := [token_id for token_id in ids if token_id in vocabulary.special_ids]:
        raise PromptError(
            f"every member of the ensemble must be able to read the prompt; the special token {special[0]} "
            f"({vocabulary.display(special[0])!r}) is the model {vocabulary.name!r}'s own: send the text, or messages "
            "as a chat, or ask that model alone"
        )
    try:
        vocabulary.join(ids).decode("utf-8")
    except UnicodeDecodeError as error:
        raise PromptError(
            f"every member of the ensemble must be able to read the prompt; its tokens spell part of a character "
            f"at byte {error.start}: send whole characters, or ask the model {vocabulary.name!r} alone"
        ) from error
