"""From members to the fusion methods that are there to be compared with: their tables, made from the vocabularies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self, final

import torch
from torch import Tensor

from deepen_llm.config import FusionConfig
from deepen_llm.errors import VocabularyError
from deepen_llm.fusion.bytewise import Verdict
from deepen_llm.fusion.equal_text import EqualTextFusion
from deepen_llm.fusion.text import TextFusion
from deepen_llm.fusion.union import UnionFusion, UnionTables
from deepen_llm.members.base import Member
from deepen_llm.vocabulary import Vocabulary

Text = bytes | str
"""What tokens are compared by: their bytes; a string for end-of-sequence, which is no text."""
END: Text = ""
"""Every member's end-of-sequence, where they are aligned."""


@final
@dataclass(frozen=True)
class MemberTexts:
    """What one member's tokens say, and by which token it says a text."""

    vocabulary: Vocabulary
    device: torch.device
    of_id: dict[int, Text]
    """The tokens that may come, and no others."""
    ids: dict[Text, int]

    @classmethod
    def read(cls, member: Member, *, align_eos: bool) -> Self:
        """A member's texts. Ends of sequence that are not aligned are told apart by the way they are written."""
        vocabulary = member.vocabulary
        of_id: dict[int, Text] = {i: token for i, token in enumerate(vocabulary.tokens) if token is not None}
        ids: dict[Text, int] = dict(vocabulary.ids_by_token.items())
        for token_id in vocabulary.eos_ids:
            of_id[token_id] = END if align_eos else f"end: {vocabulary.display(token_id)}"
            ids.setdefault(of_id[token_id], token_id)
        return cls(vocabulary, member.device, of_id, ids)

    @property
    def counts_as(self) -> Tensor:
        """`(num_logits,)`: see `BytewiseReader.build`."""
        return self.map_ids(self.ids)

    def map_ids(self, numbers: Mapping[Text, int]) -> Tensor:
        """`(num_logits,)` int64: what stands for each token's text, -1 where nothing does."""
        texts = (self.of_id.get(token_id) for token_id in range(len(self.vocabulary)))
        return torch.tensor([-1 if text is None else numbers.get(text, -1) for text in texts], device=self.device)

    def find_first(self, text: Text) -> int:
        """The token with this text, or the first of those by which the member spells it; -1 for none."""
        if text in self.ids:
            return self.ids[text]
        if isinstance(text, str) or not text:
            return -1
        if whole := _whole_characters(text):
            first = next(iter(self.vocabulary.encode(whole, at_start=False)), None)
        else:
            first = self.vocabulary.byte_ids[text[0]]
        # Neither an unknown token nor any other special one is a text.
        return self.ids[self.of_id[first]] if first in self.of_id else -1


def build_union(members: Sequence[Member], main: int, weights: Sequence[float], config: FusionConfig) -> UnionFusion:
    """The union of the members' best tokens, with a table of how each member would begin every other's tokens."""
    read = _read_texts(members, config)
    texts = dict.fromkeys(text for member in read for text in member.of_id.values())
    numbers = {text: number for number, text in enumerate(texts)}
    tables = [
        UnionTables(
            counts_as=member.counts_as,
            text_of=member.map_ids(numbers),
            first_id=torch.tensor([member.find_first(text) for text in texts], device=member.device),
        )
        for member in read
    ]
    verdict = _make_verdict(read[main], config)
    return UnionFusion(tables, main=main, weights=tuple(weights), verdict=verdict, top_k=config.top_k)


def build_equal_text(
    members: Sequence[Member], main: int, weights: Sequence[float], config: FusionConfig
) -> EqualTextFusion:
    """The average over equal token text.

    Raises:
        VocabularyError: A member shares too few tokens with the main model.
    """
    read = _read_texts(members, config)
    _check_common(read, main, config.min_common_tokens)
    speaks = read[main].counts_as
    is_said = speaks == torch.arange(len(speaks), device=speaks.device)
    return EqualTextFusion(
        [member.counts_as for member in read],
        [read[main].map_ids(member.ids).masked_fill(~is_said, -1).to(member.device) for member in read],
        main=main,
        weights=tuple(weights),
        verdict=_make_verdict(read[main], config),
        mean=config.mean,
    )


def build_text(members: Sequence[Member], main: int, weights: Sequence[float], config: FusionConfig) -> TextFusion:
    """The average of readings as text."""
    read = MemberTexts.read(members[main], align_eos=True)
    verdict = _make_verdict(read, config)
    return TextFusion(read.counts_as, main=main, weights=tuple(weights), verdict=verdict, mean=config.mean)


def _read_texts(members: Sequence[Member], config: FusionConfig) -> list[MemberTexts]:
    return [MemberTexts.read(member, align_eos=config.align_eos) for member in members]


def _make_verdict(main: MemberTexts, config: FusionConfig) -> Verdict:
    return Verdict(config.trust, config.main_ends, main.vocabulary.eos_ids)


def _check_common(members: Sequence[MemberTexts], main: int, needed: int) -> None:
    spoken = set(members[main].vocabulary.ids_by_token)
    for member in (*members[:main], *members[main + 1 :]):
        num_common = len(spoken & set(member.vocabulary.ids_by_token))
        if num_common < needed:
            raise VocabularyError(
                f"every member must share at least {needed} tokens with the main model, "
                f"{members[main].vocabulary.name!r}; {member.vocabulary.name!r} shares {num_common}: leave it out, or "
                "lower FusionConfig(min_common_tokens=...)"
            )


def _whole_characters(text: bytes) -> str:
    """The characters before the first byte that is no part of one."""
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        return text[: error.start].decode()
