"""Plain text into token ids by llama.cpp's tokenizer, never into a special token."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import final

from deepen_llm.members.gguf.model import LlamaModel
from deepen_llm.vocabulary.segmenter import UNCLEAR, Segmentation, character_starts


@final
class GGUFSegmenter:
    """Cuts plain text with llama.cpp's tokenizer: one for the start of a text, one for what continues it."""

    def __init__(
        self,
        start: LlamaModel,
        continuing: LlamaModel,
        pieces: Sequence[bytes],
        special_texts: Mapping[int, str],
        prefix_ids: tuple[int, ...],
    ) -> None:
        """Take the tokenizers, which are one where nothing is put before the start of a text.

        Args:
            start: For the start of a text.
            continuing: For what continues it.
            pieces: The bytes of every token.
            special_texts: How the tokens are written that no text may become, by id.
            prefix_ids: What comes before a prompt.
        """
        self._start, self._continuing = start, continuing
        self._pieces, self._special_ids = pieces, frozenset(special_texts)
        self._byte_ids = {piece: i for i, piece in enumerate(pieces) if len(piece) == 1 and i not in special_texts}
        self.adds_prefix_space = self.prefixes_sections = start is not continuing
        self.prefix_ids = prefix_ids
        spelled = [
            text
            for token_id, text in special_texts.items()
            if text and token_id in self._tokenize(continuing, text.encode("utf-8", "replace"))
        ]
        self._spelled = (
            re.compile("|".join(map(re.escape, sorted(spelled, key=len, reverse=True)))) if spelled else None
        )

    def segment(self, text: str, at_start: bool) -> Segmentation:
        """The tokens of plain text.

        llama.cpp finds the special tokens of some vocabularies in plain text, too. Their texts are cut apart after the
        first character.
        """
        ids: list[int] = []
        starts: list[int] = []
        for begin, part in self._split(text):
            found = self._cut(part, at_start and begin == 0)
            ids += found.ids
            starts += [at if at < 0 else at + begin for at in found.starts]
        return Segmentation(ids, starts)

    def normalize(self, text: str) -> str:
        """The text itself."""
        return text

    def _split(self, text: str) -> Iterator[tuple[int, str]]:
        """The parts of a text that are cut each for itself, and where they begin."""
        cuts = {0, len(text)}
        for match in self._spelled.finditer(text) if self._spelled else ():
            cuts |= {match.start() + 1} if len(match.group()) > 1 else {match.start(), match.end()}
        for begin, end in pairwise(sorted(cuts)):
            yield begin, text[begin:end]

    def _cut(self, text: str, at_start: bool) -> Segmentation:
        """The tokens of a part; a special one that is left, of one character, becomes its bytes."""
        data = text.encode("utf-8", "replace")
        ids = self._tokenize(self._start if at_start else self._continuing, data)
        if not self._special_ids.isdisjoint(ids) and len(text) == 1:
            ids = [self._byte_ids[bytes((byte,))] for byte in data if bytes((byte,)) in self._byte_ids]
        return Segmentation(ids, self._find_starts(text, data, ids))

    def _tokenize(self, model: LlamaModel, data: bytes) -> list[int]:
        room = len(data) + 8  # no token is shorter than a byte, but for a dummy space
        ids = (ctypes.c_int32 * room)()
        num: int = model.library.llama_tokenize(model.vocab, data, len(data), ids, room, False, False)
        return ids[: max(num, 0)]

    def _find_starts(self, text: str, data: bytes, ids: Sequence[int]) -> list[int]:
        """The character where each token begins: counted from the tokens' bytes, where these are the text's."""
        pieces = [self._pieces[token_id] for token_id in ids]
        spelled = b"".join(pieces)
        num_dummy = len(spelled) - len(data)
        if num_dummy not in (0, 1) or spelled[num_dummy:] != data:
            return [0, *[UNCLEAR] * (len(ids) - 1)] if ids else []
        at = character_starts(text)
        places = accumulate((len(piece) for piece in pieces[:-1]), initial=-num_dummy)
        return [at.get(max(place, 0), UNCLEAR) for place in places] if ids else []
