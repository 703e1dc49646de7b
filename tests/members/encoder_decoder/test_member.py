from __future__ import annotations

from typing import Any

import pytest
import torch

from deepen_llm.testing import MemberConformance
from tests.encoder_decoders import FAMILIES, make_member

SOURCES = ("the quick brown fox", "Once upon a time there was a little girl named Lily.", "dog")


class _OfFamily(MemberConformance):
    """The tests of any member, over one source."""

    family: str

    def make_member(self):
        member = make_member(self.family)
        source_ids = member.source_reader.encode(SOURCES[0])
        member.open = lambda: member.open_over(source_ids)  # type: ignore[method-assign]
        return member

    def count_cached(self) -> int:
        cache = self.member._rows._cache
        return cache.answer.num_rows + cache.source.num_rows + len(self.member._sourced._sources)


class TestConformanceOfT5(_OfFamily):
    """Relative positions."""

    family = "t5"


class TestConformanceOfNllb(_OfFamily):
    """Positions in a table."""

    family = "m2m100"


for _family in FAMILIES:
    if _family not in ("t5", "m2m100"):
        _tests = type(f"TestConformanceOf{_family}", (_OfFamily,), {"family": _family})
        globals()[_tests.__name__] = pytest.mark.slow(_tests)


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_over_sources_of_different_lengths_equal_each_alone_however_they_grow_and_shrink(family):
    member = make_member(family)
    ids = member.vocabulary.encode("and the dog does not mind at all")
    sources = [member.source_reader.encode(source) for source in SOURCES]
    expected = [alone(member, source, ids[: 3 + place]) for place, source in enumerate(sources)]
    with torch.inference_mode():
        rows = [member.open_over(source) for source in sources]
        member.extend({rows[0]: ids[:2], rows[1]: ids[:4]})
        member.extend({rows[1]: ids[5:7], rows[2]: ids[:1], rows[0]: ids[6:7]})
        member.rollback(rows[1], 3)
        member.rollback(rows[0], 1)
        fed = {rows[0]: ids[2:3], rows[1]: ids[3:4], rows[2]: ids[1:5]}
        torch.testing.assert_close(member.extend(fed), torch.stack(expected), atol=1e-4, rtol=1e-4)


def alone(member: Any, source_ids: tuple[int, ...], ids: list[int]) -> torch.Tensor:
    """What the model itself says of one source and one text, without a cache."""
    with torch.inference_mode():
        outputs = member._model(
            input_ids=torch.tensor([source_ids]), decoder_input_ids=torch.tensor([ids]), use_cache=False
        )
    return outputs.logits[0, -1]
