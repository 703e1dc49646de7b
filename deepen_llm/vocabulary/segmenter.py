"""Plain text into token ids, never into a special token. The caller's tokenizer is only read, never changed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from tokenizers import Tokenizer

from deepen_llm.vocabulary.parts import (
    BYTE_PIECE_SAMPLE,
    assemble,
    break_byte_pieces,
    can_produce,
    continue_text,
    describe_part,
    keep_spaces,
    read_prefix_scheme,
    silence,
    walk_parts,
)

UNCLEAR = -1


@dataclass(frozen=True, slots=True)
class Segmentation:
    """The tokens of a text. `starts[i]` is the character of the text where token i begins.

    It is `UNCLEAR` where the token begins inside a character or where its beginning cannot be told.
    """

    ids: list[int]
    starts: list[int]


class Segmenter(Protocol):
    """What a vocabulary needs of a tokenizer."""

    adds_prefix_space: bool
    """Whether a text's start gets one dummy space."""
    prefixes_sections: bool
    """Whether text that follows a special token gets it, too."""
    prefix_ids: tuple[int, ...]
    """What the tokenizer puts before a prompt."""

    def segment(self, text: str, at_start: bool) -> Segmentation:
        """The tokens of plain text; `at_start` False where the text continues other text."""

    def normalize(self, text: str) -> str:
        """The text as the tokens will spell it, for text that continues other text."""


class BackendSegmenter:
    """A tokenizer of the tokenizers library, on private copies: one for the start of a text, one for what continues it.

    The copies share the model (merges, pieces), know no special token, and neither truncate nor pad. Where a special
    token's text is also a piece that the model itself can produce (Unigram models, mostly), the model is copied, too,
    and that piece renamed so that no text can match it.
    """

    def __init__(self, backend: Tokenizer, special_ids: Iterable[int], num_logits: int) -> None:
        added = sorted(backend.get_added_tokens_decoder().items())
        unwanted = {*special_ids, *(token_id for token_id, _ in added if token_id >= num_logits)}
        specials = {token_id: backend.id_to_token(token_id) or "" for token_id in unwanted}
        plain = [(token_id, token) for token_id, token in added if token_id not in unwanted]
        normalizer, pre_tokenizer = keep_spaces(*map(describe_part, (backend.normalizer, backend.pre_tokenizer)))
        model = silence(backend.model, specials)
        if can_produce(model, BYTE_PIECE_SAMPLE, model.token_to_id(BYTE_PIECE_SAMPLE)):
            pre_tokenizer = break_byte_pieces(pre_tokenizer)
        self._start = assemble(model, normalizer, pre_tokenizer, plain)
        self._continue = assemble(model, continue_text(normalizer), continue_text(pre_tokenizer), plain)
        self._original_ids = {self._start.token_to_id(token.content): token_id for token_id, token in plain}
        scheme = read_prefix_scheme([*walk_parts(normalizer), *walk_parts(pre_tokenizer)])
        self.adds_prefix_space = scheme != "never"
        self.prefixes_sections = scheme == "always"
        self.prefix_ids = _leading_specials(backend)

    def segment(self, text: str, at_start: bool) -> Segmentation:
        """The tokens of plain text; `at_start` False where the text continues other text."""
        encoding = (self._start if at_start else self._continue).encode(text, add_special_tokens=False)
        ids, starts = encoding.ids, _clear_starts(encoding.offsets)
        if not self._original_ids:
            return Segmentation(ids, starts)
        first = next((index for index, token_id in enumerate(ids) if token_id in self._original_ids), None)
        if first is not None and self.prefixes_sections and not at_start:
            return self._segment_from(text, encoding.offsets[first][0])
        return Segmentation([self._original_ids.get(token_id, token_id) for token_id in ids], starts)

    def _segment_from(self, text: str, character: int) -> Segmentation:
        """Continuing text with an added token at this character: what follows that token gets its dummy space."""
        left, right = self.segment(text[:character], False), self.segment(text[character:], True)
        starts = [at if at < 0 else at + character for at in right.starts]
        return Segmentation(left.ids + right.ids, left.starts + starts)

    def normalize(self, text: str) -> str:
        """The text as the tokens will spell it, for text that continues other text."""
        normalizer = self._continue.normalizer
        normalized: str = text if normalizer is None else normalizer.normalize_str(text)
        return normalized


class BytesSegmenter:
    """A Python tokenizer whose tokens are bytes (tiktoken-style, with code of its own)."""

    adds_prefix_space = False
    prefixes_sections = False

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        bare = tokenizer.encode("a", add_special_tokens=False)
        whole = tokenizer.encode("a", add_special_tokens=True)
        self.prefix_ids = tuple(whole[: next(i for i in range(len(whole)) if whole[i : i + len(bare)] == bare)])

    def segment(self, text: str, at_start: bool) -> Segmentation:
        """The tokens of plain text, with the starts counted from the tokens' bytes."""
        del at_start
        pieces = self._tokenize(text)
        ids: list[int] = self._tokenizer.convert_tokens_to_ids(pieces)
        starts, position, characters = [], 0, character_starts(text)
        for piece in pieces:
            starts.append(characters.get(position, UNCLEAR))
            position += len(piece)
        return Segmentation(ids, starts)

    def _tokenize(self, text: str) -> list[bytes]:
        """Text tokens are bytes. A string is a special token that the text spells: broken up, it stays text."""
        pieces: list[bytes | str] = self._tokenizer.tokenize(text, split_special_tokens=True)
        spelled = next((piece for piece in pieces if isinstance(piece, str) and len(piece) > 1 and piece in text), None)
        if spelled is None:
            return [piece for piece in pieces if isinstance(piece, bytes)]
        cut = text.index(spelled) + 1
        return self._tokenize(text[:cut]) + self._tokenize(text[cut:])

    def normalize(self, text: str) -> str:
        """The text itself."""
        return text


def _leading_specials(backend: Tokenizer) -> tuple[int, ...]:
    """The ids that the tokenizer's post-processor puts before a text."""
    if backend.post_processor is None:
        return ()
    tokenizer = Tokenizer(backend.model)
    tokenizer.post_processor = backend.post_processor
    for sample in ("a", *filter(None, map(backend.id_to_token, range(100)))):
        mask = tokenizer.encode(sample).special_tokens_mask
        if 0 in mask:
            return tuple(tokenizer.encode(sample).ids[: mask.index(0)])
    return ()


def character_starts(text: str) -> dict[int, int]:
    """For the byte where each character begins, the character's index."""
    starts, position = {}, 0
    for index, character in enumerate(text):
        starts[position] = index
        position += len(character.encode("utf-8"))
    return starts


def _clear_starts(offsets: list[tuple[int, int]]) -> list[int]:
    """Where each token begins; unclear where its span overlaps that of a token before it."""
    starts, furthest = [], 0
    for start, end in offsets:
        starts.append(start if start >= furthest else UNCLEAR)
        furthest = max(furthest, end)
    return starts
