"""Special tokens in text: found as the tokenizer finds them, and hidden where a text only spells them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import AddedToken, Tokenizer
from tokenizers.models import BPE


@dataclass(frozen=True, slots=True)
class Section:
    """One part of a rendered chat: a special token, or the plain text between two of them."""

    text: str
    special_id: int | None = None


class SpecialFinder:
    """Finds a tokenizer's special tokens in text, as that tokenizer does, and hides them in text where asked."""

    def __init__(
        self, special_texts: Mapping[int, str], added: Mapping[int, AddedToken] | None = None, normalizer: Any = None
    ) -> None:
        """Learn the special tokens.

        Args:
            special_texts: How they are written, by id.
            added: Further tokens that are found whole in a text, and special ones that are found in a way of their
                own (with the spaces around them, say).
            normalizer: Of the tokenizers library; what the text goes through before normalized tokens are found.
        """
        own = {token_id: AddedToken(text, special=True) for token_id, text in special_texts.items()}
        self._tokenizer = Tokenizer(BPE())
        if normalizer is not None:
            self._tokenizer.normalizer = normalizer
        self._tokenizer.add_tokens(list((own | dict(added or {})).values()))
        self._special_ids = {self._tokenizer.token_to_id(text): token_id for token_id, text in special_texts.items()}
        self._contents = sorted(filter(None, special_texts.values()), key=len, reverse=True)
        self._heads = {text[:size] for text in self._contents for size in range(1, len(text))}
        self._tails = {text[size:] for text in self._contents for size in range(1, len(text))}

    def split(self, text: str) -> list[Section]:
        """The text as plain sections and special tokens, in order; empty sections are left out."""
        sections, position = [], 0
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        for token_id, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
            if token_id in self._special_ids:
                sections.append(Section(text[position:start]))
                sections.append(Section(text[start:end], self._special_ids[token_id]))
                position = end
        sections.append(Section(text[position:]))
        return [section for section in sections if section.text]

    def hide(self, messages: Sequence[Mapping[str, str]]) -> tuple[list[dict[str, str]], dict[int, str]] | None:
        """The messages with whatever could become a special token disguised, and the table that undoes it.

        Disguised are the first character of every special token's text, and a text's edge where it could make a special
        token together with its neighbour. None where there is nothing of the kind.
        """
        texts = [text for message in messages for text in (message["role"], message["content"])]
        if not any(self._is_risky(text) for text in texts):
            return None
        originals = ["", *sorted({content[0] for content in self._contents})]
        masks = dict(zip(originals, _unused_characters(texts), strict=False))
        hidden = [{key: self._disguise(text, masks) for key, text in message.items()} for message in messages]
        return hidden, {ord(mask): original for original, mask in masks.items()}

    def _is_risky(self, text: str) -> bool:
        return any(content in text for content in self._contents) or any(self._edges(text))

    def _edges(self, text: str) -> tuple[bool, bool]:
        """Whether the text begins as a special token ends, and whether it ends as one begins."""
        sizes = range(1, min(len(text), len(self._contents[0]) if self._contents else 0) + 1)
        return any(text[:size] in self._tails for size in sizes), any(text[-size:] in self._heads for size in sizes)

    def _disguise(self, text: str, masks: dict[str, str]) -> str:
        if not isinstance(text, str):
            return text
        ends, begins = self._edges(text)
        for content in self._contents:
            text = text.replace(content, masks[content[0]] + content[1:])
        return (masks[""] if ends else "") + text + (masks[""] if begins else "")


def _unused_characters(texts: Iterable[str]) -> Iterator[str]:
    """Private-use characters that occur in none of the texts."""
    used = set().union(*texts)
    return (chr(code) for code in range(0xF0000, 0xFFFFE) if chr(code) not in used)
