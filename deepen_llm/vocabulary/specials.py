"""Special tokens in text: found as the tokenizer finds them, and hidden where a text only spells them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from tokenizers import AddedToken, Tokenizer
from tokenizers.models import BPE

Json = Any
"""What JSON can write: texts, numbers, lists and mappings of them."""


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

    def hide(self, value: Json) -> tuple[Json, dict[int, str]] | None:
        """The texts of a JSON value with whatever could become a special token disguised, and the table that undoes it.

        Disguised are the first character of every special token's text, and a text's edge where it could make a special
        token together with its neighbour. None where there is nothing of the kind.
        """
        texts = list(walk_texts(value))
        if not any(self._is_risky(text) for text in texts):
            return None
        originals = ["", *sorted({content[0] for content in self._contents})]
        masks = dict(zip(originals, unused_characters(texts), strict=False))
        hidden = map_texts(value, lambda text: self._disguise(text, masks))
        return hidden, {ord(mask): original for original, mask in masks.items()}

    def _is_risky(self, text: str) -> bool:
        return any(content in text for content in self._contents) or any(self._edges(text))

    def _edges(self, text: str) -> tuple[bool, bool]:
        """Whether the text begins as a special token ends, and whether it ends as one begins."""
        sizes = range(1, min(len(text), len(self._contents[0]) if self._contents else 0) + 1)
        return any(text[:size] in self._tails for size in sizes), any(text[-size:] in self._heads for size in sizes)

    def _disguise(self, text: str, masks: dict[str, str]) -> str:
        ends, begins = self._edges(text)
        for content in self._contents:
            text = text.replace(content, masks[content[0]] + content[1:])
        return (masks[""] if ends else "") + text + (masks[""] if begins else "")


def walk_texts(value: Json) -> Iterator[str]:
    """Every string of a JSON value, the keys of its mappings aside."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from walk_texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from walk_texts(item)


def map_texts(value: Json, change: Callable[[str], str]) -> Json:
    """A JSON value with every string that `walk_texts` finds replaced."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: map_texts(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [map_texts(item, change) for item in value]
    return value


def unused_characters(texts: Iterable[str]) -> Iterator[str]:
    """Private-use characters that occur in none of the texts."""
    used = set().union(*texts)
    codes = chain(range(0xF0000, 0xFFFFE), range(0x100000, 0x10FFFE))
    return (character for character in map(chr, codes) if character not in used)
