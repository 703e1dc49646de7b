from __future__ import annotations

import math

import pytest
import torch

from deepen_llm import FusionConfig, SamplingParams
from deepen_llm.errors import VocabularyError
from deepen_llm.fusion.equal_text import EqualTextFusion
from tests.fusion.toy_texts import (
    END,
    TOLERANCE,
    close,
    ids_of,
    in_frame,
    make_logits,
    make_members,
    over_ids,
    read,
)

MEANS = ["arithmetic", "geometric"]


def make_fusion(members, *, main=0, weights=None, mean="arithmetic", trust=1.0, main_ends=False):
    own = members[main]
    ids_of_main = [
        [
            ids_of(member).get(text, -1) if text is not None and own.index(text) == at else -1
            for at, text in enumerate(own)
        ]
        for member in members
    ]
    method = EqualTextFusion([torch.tensor(ids) for ids in ids_of_main], main, mean)
    return in_frame(method, members, main=main, weights=weights, trust=trust, main_ends=main_ends)


def fuse_by_loops(members, rows, *, main, weights, mean):
    heard = []
    for member, row in zip(members, rows, strict=True):
        probs = {text: prob for text, prob in read(member, row).items() if text in members[main]}
        heard.append({text: prob / math.fsum(probs.values()) for text, prob in probs.items()})
    fused = {}
    for text in ids_of(members[main]):
        votes = [(w, probs[text]) for w, probs in zip(weights, heard, strict=True) if text in probs and w > 0]
        total = math.fsum(w for w, _ in votes)
        if mean == "arithmetic":
            fused[text] = math.fsum(w * prob for w, prob in votes)
        elif votes:
            fused[text] = math.prod(prob ** (w / total) for w, prob in votes)
    return over_ids(members[main], {text: prob / math.fsum(fused.values()) for text, prob in fused.items()})


@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize(
    ("sizes", "main", "weights"),
    [((9, 12), 0, [0.5, 0.5]), ((15, 11), 1, [0.8, 0.2]), ((14, 20, 11), 2, [0.5, 0.2, 0.3])],
)
def test_fusion_equals_the_literal_loops(sizes, main, weights, mean):
    members = make_members(sizes)
    logits = make_logits(members)

    fused = make_fusion(members, main=main, weights=weights, mean=mean).fuse(logits)

    assert fused.dtype == torch.float32 and fused.shape == (3, sizes[main])
    for row in range(3):
        rows = [member[row].tolist() for member in logits]
        expected = fuse_by_loops(members, rows, main=main, weights=weights, mean=mean)
        assert fused[row].exp().tolist() == pytest.approx(expected, abs=TOLERANCE)


def test_an_example_worked_out_by_hand():
    members = [["a", "b", END], ["b", "x", END]]
    logits = [torch.tensor([[0.5, 0.3, 0.2]]).log(), torch.tensor([[0.2, 0.5, 0.3]]).log()]

    arithmetic = make_fusion(members).fuse(logits)
    geometric = make_fusion(members, mean="geometric").fuse(logits)

    # The other member drops x: b 0.4 and end 0.6 remain.
    assert arithmetic.exp()[0].tolist() == pytest.approx([0.25, 0.35, 0.4], abs=TOLERANCE)
    votes = [0.5, math.sqrt(0.3 * 0.4), math.sqrt(0.2 * 0.6)]
    assert geometric.exp()[0].tolist() == pytest.approx([vote / sum(votes) for vote in votes], abs=TOLERANCE)


@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("trust", [0.0, 0.3, 1.0])
def test_rows_sum_to_one_and_nothing_comes_that_must_not(mean, trust):
    members = make_members((20, 16, 12))

    fused = make_fusion(members, mean=mean, trust=trust).fuse(make_logits(members, scale=6.0))

    torch.testing.assert_close(fused.exp().sum(dim=-1), torch.ones(3), atol=TOLERANCE, rtol=0)
    never = [text is None or members[0].index(text) != at for at, text in enumerate(members[0])]
    assert torch.equal(fused == -math.inf, torch.tensor(never).expand(3, -1))


@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("num_copies", [2, 3])
def test_copies_of_one_model_are_that_model(mean, num_copies):
    members = make_members((20,)) * num_copies
    logits = make_logits(members[:1]) * num_copies

    fused = make_fusion(members, mean=mean).fuse(logits)

    for row in range(3):
        expected = over_ids(members[0], read(members[0], logits[0][row].tolist()))
        assert fused[row].exp().tolist() == pytest.approx(expected, abs=TOLERANCE)


@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("settings", [{"weights": [1.0, 0.0]}, {"trust": 0.0}])
def test_all_weight_on_main_or_no_trust_is_the_main_model_alone(mean, settings):
    members = make_members((20, 16))
    logits = make_logits(members)

    fused = make_fusion(members, mean=mean, **settings).fuse(logits)

    for row in range(3):
        expected = over_ids(members[0], read(members[0], logits[0][row].tolist()))
        assert fused[row].exp().tolist() == pytest.approx(expected, abs=TOLERANCE)


def test_all_weight_on_another_member_is_what_it_says_of_the_main_models_tokens():
    members = make_members((20, 16))
    logits = make_logits(members)

    fused = make_fusion(members, weights=[0.0, 1.0]).fuse(logits)

    rows = [member[0].tolist() for member in logits]
    expected = fuse_by_loops(members, rows, main=0, weights=[0.0, 1.0], mean="arithmetic")
    assert fused[0].exp().tolist() == pytest.approx(expected, abs=TOLERANCE)
    assert any(text in members[0] and text not in members[1] for text in members[0])


@pytest.mark.parametrize("mean", MEANS)
def test_the_order_of_the_others_and_a_member_without_weight_do_not_matter(mean):
    members = make_members((20, 16, 12))
    logits = make_logits(members)
    turned = [0, 2, 1]

    one = make_fusion(members, weights=[0.6, 0.4, 0.0], mean=mean).fuse(logits)
    other = make_fusion([members[i] for i in turned], weights=[0.6, 0.0, 0.4], mean=mean).fuse(
        [logits[i] for i in turned]
    )

    close(one, other)
    close(one, make_fusion(members[:2], weights=[0.6, 0.4], mean=mean).fuse(logits[:2]))


@pytest.mark.parametrize("mean", MEANS)
def test_a_batch_of_many_is_many_batches_of_one(mean):
    members = make_members((20, 16))
    logits = make_logits(members, batch=5)
    fusion = make_fusion(members, mean=mean, main_ends=True)

    together = fusion.fuse(logits)

    for row in range(5):
        close(together[row], fusion.fuse([rows[row : row + 1] for rows in logits])[0])


def test_trust_goes_from_the_main_model_to_the_mean_in_logprobs():
    members = make_members((20, 16))
    alone, half, fused = (make_fusion(members, trust=t).fuse(make_logits(members)) for t in (0.0, 0.5, 1.0))

    close(half, (0.5 * alone + 0.5 * fused).log_softmax(dim=-1))


def test_where_the_main_model_would_end_the_step_is_left_to_it():
    members = make_members((20, 16))
    logits = make_logits(members, batch=2)
    logits[0][0, -1] = 20.0

    fused = make_fusion(members, main_ends=True).fuse(logits)
    plain = make_fusion(members).fuse(logits)
    alone = make_fusion(members, trust=0.0).fuse(logits)

    assert torch.equal(fused[0], alone[0]) and not torch.allclose(plain[0], alone[0])
    assert torch.equal(fused[1], plain[1])


@pytest.mark.parametrize("mean", MEANS)
def test_a_member_that_says_nothing_of_the_main_models_tokens_leaves_the_step_to_the_others(mean):
    members = [["a", "b", END], ["x", "a", END]]
    logits = [torch.tensor([[1.0, 2.0, 0.0]]), torch.tensor([[0.0, -math.inf, -math.inf]])]

    fused = make_fusion(members, mean="arithmetic").fuse(logits)
    empty = make_fusion(members, weights=[0.0, 1.0], mean=mean).fuse(logits)

    close(fused, logits[0].log_softmax(dim=-1))
    close(empty, logits[0].log_softmax(dim=-1))


@pytest.mark.parametrize("mean", MEANS)
def test_logits_stay_as_they_were_and_any_float_type_gives_float32(mean):
    members = make_members((20, 16))
    fusion = make_fusion(members, mean=mean, trust=0.9, main_ends=True)
    with torch.inference_mode():
        logits = [rows.to(torch.bfloat16) for rows in make_logits(members)]
        before = [rows.clone() for rows in logits]
        fused = fusion.fuse(logits)

    assert fused.dtype == torch.float32
    assert all(torch.equal(rows, copy) for rows, copy in zip(logits, before, strict=True))
    assert fusion.num_bytes > 0


@pytest.mark.parametrize("main", [0, 1, 2])
def test_an_ensemble_answers_whoever_is_main(make_ensemble, main):
    story, weights = "The quick brown fox jumps over the lazy dog.", [0.15, 0.15, 0.15]
    weights[main] = 0.7
    kinds = ("bpe", "sentencepiece", "unigram")
    ensemble = make_ensemble([story], kinds, main=main, weights=weights, fusion=FusionConfig(method="equal_text"))
    assert isinstance(ensemble.fusion, EqualTextFusion)
    assert ensemble.generate("The quick", SamplingParams(max_new_tokens=40)).text == story.removeprefix("The quick")


def test_the_mean_and_the_trust_reach_the_method(make_ensemble):
    def score(**settings):
        fusion = FusionConfig(method="equal_text", **settings)
        return make_ensemble(["The quick brown fox."], fusion=fusion).score("The quick", " brown").logprob

    assert len({score(), score(mean="geometric"), score(trust=0.5)}) == 3


def test_members_that_share_too_little_with_the_main_model_are_refused(make_ensemble):
    with pytest.raises(VocabularyError, match=r"at least 5000 tokens with the main model, 'bpe'; 'sentencepiece'"):
        make_ensemble(["a story"], fusion=FusionConfig(method="equal_text", min_common_tokens=5000))
