from __future__ import annotations

import pytest
import torch

from deepen_llm import FusionConfig, SamplingParams
from deepen_llm.baselines import END, MemberTexts
from deepen_llm.errors import VocabularyError
from deepen_llm.fusion.equal_text import EqualTextFusion
from deepen_llm.fusion.union import UnionFusion

STORY = "The quick brown fox jumps over the lazy dog."
KINDS = ("bpe", "sentencepiece", "unigram")


@pytest.mark.parametrize(("method", "kind"), [("union", UnionFusion), ("equal_text", EqualTextFusion)])
@pytest.mark.parametrize("main", [0, 1, 2])
def test_an_ensemble_answers_by_either_method_whoever_is_main(make_ensemble, method, kind, main):
    weights = [0.15, 0.15, 0.15]
    weights[main] = 0.7
    ensemble = make_ensemble([STORY], KINDS, main=main, weights=weights, fusion=FusionConfig(method=method))

    assert isinstance(ensemble.fusion, kind)
    assert ensemble.generate("The quick", SamplingParams(max_new_tokens=40)).text == STORY.removeprefix("The quick")


def test_top_k_and_mean_reach_the_methods(make_ensemble):
    def score(**fusion):
        return make_ensemble([STORY], fusion=FusionConfig(**fusion)).score("The quick", " brown").logprob

    assert score(method="union", top_k=1) > score(method="union", top_k=50)
    assert score(method="equal_text") != score(method="equal_text", mean="geometric")
    assert score(method="equal_text") != score(method="equal_text", trust=0.5)


@pytest.mark.parametrize("align", [True, False])
def test_ends_of_sequence_meet_where_they_are_aligned_or_written_alike(make_ensemble, align):
    bpe, piece = (MemberTexts.read(member, align_eos=align) for member in make_ensemble([STORY]).members)
    ends = [member.vocabulary.eos_ids[0] for member in (bpe, piece)]

    assert bpe.vocabulary.display(ends[0]) != piece.vocabulary.display(ends[1])
    assert (bpe.of_id[ends[0]] == END) == align
    assert bpe.find_first(piece.of_id[ends[1]]) == (ends[0] if align else -1)


def test_a_token_that_a_member_lacks_is_begun_as_its_tokenizer_cuts_it(make_ensemble):
    members = make_ensemble([STORY], KINDS).members
    texts = [MemberTexts.read(member, align_eos=True) for member in members]
    for reader in texts:
        for other in texts:
            for token in other.vocabulary.ids_by_token:
                try:
                    cut = reader.vocabulary.encode(token.decode(), at_start=False)
                except UnicodeDecodeError:
                    continue
                expected = reader.ids.get(token, cut[0])
                assert reader.of_id[reader.find_first(token)] == reader.of_id[expected]


def test_parts_of_characters_begin_with_a_byte_or_with_nothing(make_ensemble):
    reader = MemberTexts.read(make_ensemble([STORY], ("sentencepiece",)).members[0], align_eos=True)
    lead = "字".encode()[:1]

    assert reader.of_id[reader.find_first(lead + b"\xff\xff")] == lead
    assert reader.of_id[reader.find_first(b"q\xff\xff")] == b"q"
    assert reader.find_first(b"") == -1


def test_what_counts_as_another_token_has_its_bytes(make_ensemble):
    reader = MemberTexts.read(make_ensemble([STORY], ("sentencepiece",)).members[0], align_eos=True)
    counts = reader.counts_as
    moved = (counts != torch.arange(len(counts))) & (counts >= 0)

    assert moved.any()  # <0x61> beside the letter itself
    for token_id in moved.nonzero().flatten().tolist():
        assert reader.of_id[token_id] == reader.of_id[int(counts[token_id])]
    assert all(reader.vocabulary.tokens[i] is None for i in (counts < 0).nonzero().flatten().tolist())


def test_members_that_share_too_little_with_the_main_model_are_refused(make_ensemble):
    with pytest.raises(VocabularyError, match=r"at least 5000 tokens with the main model, 'bpe'; 'sentencepiece'"):
        make_ensemble([STORY], fusion=FusionConfig(method="equal_text", min_common_tokens=5000))
