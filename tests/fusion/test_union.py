from __future__ import annotations

import math

import pytest
import torch

from deepen_llm import FusionConfig, SamplingParams
from deepen_llm.fusion.union import UnionFusion, UnionTables
from tests.fusion.toy_texts import (
    END,
    TOLERANCE,
    close,
    first_id,
    ids_of,
    in_frame,
    make_logits,
    make_members,
    over_ids,
    read,
)


def make_fusion(members, *, main=0, weights=None, top_k=4, trust=1.0, main_ends=False):
    texts = sorted({text for member in members for text in member if text is not None})
    tables = [
        UnionTables(
            text_of=torch.tensor([-1 if text is None else texts.index(text) for text in member]),
            first_id=torch.tensor([first_id(member, text) for text in texts]),
        )
        for member in members
    ]
    return in_frame(UnionFusion(tables, top_k), members, main=main, weights=weights, trust=trust, main_ends=main_ends)


def fuse_by_loops(members, rows, *, main, weights, top_k):
    said = [read(member, row) for member, row in zip(members, rows, strict=True)]
    union = set()
    for probs, weight in zip(said, weights, strict=True):
        best = sorted(probs, key=lambda text: -probs[text])[:top_k]
        union |= {text for text in best if weight > 0 and first_id(members[main], text) >= 0}
    fused = [0.0] * len(members[main])
    for member, probs, weight in zip(members, said, weights, strict=True):
        over_union = {}
        for text in union:
            token_id = first_id(member, text)
            over_union[text] = 0.0 if token_id < 0 else probs[member[token_id]]
        for text, prob in over_union.items():
            fused[first_id(members[main], text)] += weight * prob / math.fsum(over_union.values())
    return fused


@pytest.mark.parametrize("top_k", [1, 3, 100])
@pytest.mark.parametrize(
    ("sizes", "main", "weights"),
    [((9, 12), 0, [0.5, 0.5]), ((15, 11), 1, [0.8, 0.2]), ((14, 20, 11), 2, [0.5, 0.2, 0.3])],
)
def test_fusion_equals_the_literal_loops(sizes, main, weights, top_k):
    members = make_members(sizes)
    logits = make_logits(members)

    fused = make_fusion(members, main=main, weights=weights, top_k=top_k).fuse(logits)

    assert fused.dtype == torch.float32 and fused.shape == (3, sizes[main])
    for row in range(3):
        rows = [member[row].tolist() for member in logits]
        expected = fuse_by_loops(members, rows, main=main, weights=weights, top_k=top_k)
        assert fused[row].exp().tolist() == pytest.approx(expected, abs=TOLERANCE)


def test_an_example_worked_out_by_hand():
    members = [["a", "b", "ab", END], ["b", "abc", "c", END]]
    logits = [torch.tensor([[0.5, 0.2, 0.1, 0.2]]).log(), torch.tensor([[0.1, 0.6, 0.2, 0.1]]).log()]

    fused = make_fusion(members, top_k=1).fuse(logits)

    # The union is a and abc. The main model begins abc with ab: a 0.5 and abc 0.1. The other cannot spell a.
    expected = [0.5 * 0.5 / 0.6, 0.0, 0.5 * 0.1 / 0.6 + 0.5, 0.0]
    assert fused.exp()[0].tolist() == pytest.approx(expected, abs=TOLERANCE)


def test_what_the_main_model_cannot_begin_never_joins_the_union():
    members = [["a", "b", END], ["x", "b", END]]
    logits = [torch.tensor([[3.0, 1.0, 0.0]]), torch.tensor([[9.0, 2.0, 0.0]])]

    fused = make_fusion(members, top_k=2).fuse(logits)

    assert fused.exp()[0, 1] > fused.exp()[0, 0] > 0
    assert fused[0, 2] == -math.inf


@pytest.mark.parametrize("trust", [0.0, 0.3, 1.0])
def test_rows_sum_to_one_and_nothing_comes_that_must_not(trust):
    members = make_members((20, 16, 12))

    fused = make_fusion(members, trust=trust, top_k=50).fuse(make_logits(members, scale=6.0))

    torch.testing.assert_close(fused.exp().sum(dim=-1), torch.ones(3), atol=TOLERANCE, rtol=0)
    never = [text is None or members[0].index(text) != at for at, text in enumerate(members[0])]
    assert torch.equal(fused == -math.inf, torch.tensor(never).expand(3, -1))


def test_only_tokens_of_the_union_come():
    members = make_members((20, 16))

    fused = make_fusion(members, top_k=2).fuse(make_logits(members))

    assert ((fused > -math.inf).sum(dim=-1) <= 4).all()
    torch.testing.assert_close(fused.exp().sum(dim=-1), torch.ones(3), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("num_copies", [2, 3])
def test_copies_of_one_model_are_that_models_best_tokens(num_copies):
    members = make_members((20,)) * num_copies
    logits = make_logits(members[:1]) * num_copies

    fused = make_fusion(members, top_k=3).fuse(logits)
    everything = make_fusion(members, top_k=20).fuse(logits)

    for row in range(3):
        probs = read(members[0], logits[0][row].tolist())
        best = {text: probs[text] for text in sorted(probs, key=lambda text: -probs[text])[:3]}
        share = {text: prob / sum(best.values()) for text, prob in best.items()}
        assert fused[row].exp().tolist() == pytest.approx(over_ids(members[0], share), abs=TOLERANCE)
        assert everything[row].exp().tolist() == pytest.approx(over_ids(members[0], probs), abs=TOLERANCE)


@pytest.mark.parametrize("settings", [{"weights": [1.0, 0.0]}, {"trust": 0.0}])
def test_all_weight_on_main_or_no_trust_is_the_main_model_alone(settings):
    members = make_members((20, 16))
    logits = make_logits(members)

    fused = make_fusion(members, **settings).fuse(logits)

    for row in range(3):
        expected = over_ids(members[0], read(members[0], logits[0][row].tolist()))
        assert fused[row].exp().tolist() == pytest.approx(expected, abs=TOLERANCE)


def test_the_order_of_the_others_and_a_member_without_weight_do_not_matter():
    members = make_members((20, 16, 12))
    logits = make_logits(members)
    turned = [0, 2, 1]

    one = make_fusion(members, weights=[0.6, 0.4, 0.0]).fuse(logits)
    other = make_fusion([members[i] for i in turned], weights=[0.6, 0.0, 0.4]).fuse([logits[i] for i in turned])

    close(one, other)
    close(one, make_fusion(members[:2], weights=[0.6, 0.4]).fuse(logits[:2]))


def test_a_batch_of_many_is_many_batches_of_one():
    members = make_members((20, 16))
    logits = make_logits(members, batch=5)
    fusion = make_fusion(members, main_ends=True)

    together = fusion.fuse(logits)

    for row in range(5):
        close(together[row], fusion.fuse([rows[row : row + 1] for rows in logits])[0])


def test_trust_goes_from_the_main_model_to_the_union_in_logprobs():
    members = make_members((20, 16))
    logits = make_logits(members)
    alone, half, fused = (make_fusion(members, trust=trust, top_k=20).fuse(logits) for trust in (0.0, 0.5, 1.0))

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


def test_a_union_that_the_main_model_cannot_speak_leaves_the_step_to_it():
    members = [["a", "b", END], ["x", "y", END]]
    logits = [torch.tensor([[1.0, 2.0, 0.0]]), torch.tensor([[5.0, 1.0, 0.0]])]

    fused = make_fusion(members, weights=[0.0, 1.0], top_k=2).fuse(logits)

    close(fused, logits[0].log_softmax(dim=-1))


def test_logits_stay_as_they_were_and_any_float_type_gives_float32():
    members = make_members((20, 16))
    fusion = make_fusion(members, trust=0.9, main_ends=True)
    with torch.inference_mode():
        logits = [rows.to(torch.bfloat16) for rows in make_logits(members)]
        before = [rows.clone() for rows in logits]
        fused = fusion.fuse(logits)

    assert fused.dtype == torch.float32
    assert all(torch.equal(rows, copy) for rows, copy in zip(logits, before, strict=True))
    assert fusion.num_bytes > 0


def test_a_text_said_by_two_tokens_of_a_member_counts_once_with_the_mass_of_both():
    member = ["a", "b", "a", END]
    logits = [torch.tensor([[0.3, 0.35, 0.3, 0.05]]).log()] * 2

    fused = make_fusion([member, member], top_k=1).fuse(logits)

    assert ids_of(member)["a"] == 0
    assert fused.exp()[0].tolist() == pytest.approx([1.0, 0.0, 0.0, 0.0], abs=TOLERANCE)


@pytest.mark.parametrize("main", [0, 1, 2])
def test_an_ensemble_answers_whoever_is_main(make_ensemble, main):
    story, weights = "The quick brown fox jumps over the lazy dog.", [0.15, 0.15, 0.15]
    weights[main] = 0.7
    kinds = ("bpe", "sentencepiece", "unigram")
    ensemble = make_ensemble([story], kinds, main=main, weights=weights, fusion=FusionConfig(method="union"))
    assert isinstance(ensemble.fusion, UnionFusion)
    assert ensemble.generate("The quick", SamplingParams(max_new_tokens=40)).text == story.removeprefix("The quick")


def test_how_many_tokens_each_member_brings_in_reaches_the_method(make_ensemble):
    def score(top_k):
        fusion = FusionConfig(method="union", top_k=top_k)
        return make_ensemble(["The quick brown fox."], fusion=fusion).score("The quick", " brown").logprob

    assert score(1) > score(50)
