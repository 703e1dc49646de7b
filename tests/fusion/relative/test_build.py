"""From members to relative fusion."""

from __future__ import annotations

import pytest
import torch

from deepen_llm import FusionConfig
from deepen_llm.errors import ConfigError, VocabularyError
from deepen_llm.fusion.relative.build import build_from, build_relative, describe_spaces
from deepen_llm.fusion.relative.settings import RelativeConfig
from deepen_llm.testing import ScriptedMember
from tests.fusion.relative.test_method import make_spaces

KINDS = ("bpe", "sentencepiece", "unigram")


@pytest.fixture
def members(vocabularies):
    return [ScriptedMember(vocabularies[kind], ["a story"], context_length=64, seed=0) for kind in KINDS]


def test_an_anchor_is_the_same_text_in_every_member(members):
    spaces = describe_spaces(members, RelativeConfig(removed_directions=3))
    texts = [
        [member.vocabulary.tokens[token_id] for token_id in space.anchor_ids.tolist()]
        for member, space in zip(members, spaces, strict=True)
    ]
    assert texts[0] == texts[1] == texts[2] and len(set(texts[0])) == len(texts[0]) >= 64


def test_what_is_told_of_a_member_is_its_own(members):
    for member, space in zip(members, describe_spaces(members, RelativeConfig(removed_directions=3)), strict=True):
        assert space.embeddings.data_ptr() == member.embeddings.data_ptr()
        assert torch.equal(space.allowed, member.vocabulary.allowed)
        assert space.eos_ids == member.vocabulary.eos_ids and space.removed_directions == 3


def test_too_few_common_tokens_are_told_with_the_pair_that_shares_least(members):
    with pytest.raises(VocabularyError, match=r"these share \d+, and '\w+' with '\w+' only \d+: leave one of them out"):
        describe_spaces(members, RelativeConfig(min_common_tokens=5000))


def test_a_member_without_embeddings_is_refused_by_name(members, monkeypatch):
    monkeypatch.setattr(ScriptedMember, "embeddings", None)
    with pytest.raises(ConfigError, match="bpe"):
        build_relative(RelativeConfig(), members, 0)


def test_where_ends_are_aligned_they_are_one_more_anchor():
    spaces = make_spaces((30, 25), 12, num_special=2)
    aligned, apart = (
        build_from(spaces, RelativeConfig(reading="token", form="dense", align_eos=align), 0) for align in (True, False)
    )
    assert aligned.num_bytes - apart.num_bytes == 4 * (31 + 26)  # a column more in both matrices
    assert spaces[0].with_eos_anchor().anchor_ids.tolist() == [*spaces[0].anchor_ids.tolist(), 1]
    assert len(spaces[0].anchor_ids) == 12


def test_how_long_it_took_and_which_form_it_has_can_be_read(members):
    for form in ("dense", "sampled"):
        method = build_relative(FusionConfig(form=form), members, 1)
        assert method.form == form and method.build_s > 0 and len(method.member_bytes) == 3
