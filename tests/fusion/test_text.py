from __future__ import annotations

import math

import pytest
import torch

from deepen_llm.fusion.text import FLOOR, TextFusion
from tests.fusion.fused import Given
from tests.fusion.toy_texts import TOLERANCE, close, in_frame, make_logits, make_members, over_ids, read

MEANS = ("arithmetic", "geometric")


def make_fusion(member, *, weights, main=0, mean="arithmetic", trust=1.0, main_ends=False):
    members = [member] * len(weights)
    return in_frame(TextFusion(mean), members, main=main, weights=weights, trust=trust, main_ends=main_ends)


def make_projections(member, count, batch=3, seed=5):
    """Distributions over the main model's different texts, a list of rows a member."""
    said = []
    for logits in make_logits([member] * count, batch=batch, seed=seed):
        said.append([over_ids(member, read(member, row.tolist())) for row in logits])
    return [Given(torch.tensor(rows), None) for rows in said]


@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize(
    ("weights", "main"), [([0.5, 0.5], 0), ([0.2, 0.5, 0.3], 1), ([0.0, 0.4, 0.6], 0), ([0.1, 0.2, 0.7], 0)]
)
def test_fusion_equals_the_mean_written_out(weights, main, mean):
    member = make_members((14,))[0]
    logits = make_logits([member])[0]
    projections = make_projections(member, len(weights))
    projections[main] = None

    fused = make_fusion(member, weights=weights, main=main, mean=mean).fuse_projected(logits, projections)

    assert fused.dtype == torch.float32 and fused.shape == (3, len(member))
    for row in range(3):
        own = over_ids(member, read(member, logits[row].tolist()))
        said = [own if one is None else one.probs[row].tolist() for one in projections]
        if mean == "arithmetic":
            expected = [math.fsum(w * p[v] for w, p in zip(weights, said, strict=True)) for v in range(len(member))]
        else:
            said = [p if p is own else [max(share, FLOOR) for share in p] for p in said]
            products = [math.prod(p[v] ** w for w, p in zip(weights, said, strict=True)) for v in range(len(member))]
            products = [product if own[v] > 0 else 0.0 for v, product in enumerate(products)]
            expected = [product / math.fsum(products) for product in products]
        assert fused[row].exp().tolist() == pytest.approx(expected, abs=TOLERANCE)


@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("trust", [0.0, 0.4, 1.0])
def test_rows_sum_to_one_and_nothing_comes_that_must_not(mean, trust):
    member = make_members((16,))[0]
    fusion = make_fusion(member, weights=[0.3, 0.3, 0.4], mean=mean, trust=trust)
    fused = fusion.fuse_projected(make_logits([member], scale=6.0)[0], [None, *make_projections(member, 2)])
    torch.testing.assert_close(fused.exp().sum(dim=-1), torch.ones(3), atol=TOLERANCE, rtol=0)
    never = [text is None or member.index(text) != at for at, text in enumerate(member)]
    assert (fused[:, never] == -math.inf).all()


@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("weights", [[0.0, 1.0], [0.0, 0.1, 0.2, 0.7], [0.0, 0.3, 0.3, 0.4]])
def test_a_main_model_without_weight_leaves_everything_to_the_projections(mean, weights):
    member = make_members((16,))[0]
    projections = make_projections(member, 1) * (len(weights) - 1)
    projections[0].probs[:, 3] = 0.0
    projections[0].probs /= projections[0].probs.sum(dim=-1, keepdim=True)
    fused = make_fusion(member, weights=weights, mean=mean).fuse_projected(
        make_logits([member])[0], [None, *projections]
    )
    expected = projections[0].probs / projections[0].probs.sum(dim=-1, keepdim=True)
    torch.testing.assert_close(fused.exp(), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("mean", MEANS)
def test_projections_that_are_the_main_models_own_give_the_main_model(mean):
    member = make_members((16,))[0]
    logits = make_logits([member])[0]
    fusion = make_fusion(member, weights=[0.2, 0.8], mean=mean)
    alone = fusion.fuse_projected(logits, [None, None])
    close(fusion.fuse_projected(logits, [None, Given(alone.exp(), None)]), alone)


@pytest.mark.parametrize("mean", MEANS)
def test_tokens_with_the_same_bytes_count_as_one_in_a_projection_too(mean):
    member = ["a", "b", "a", "end", "end"]
    fusion = make_fusion(member, weights=[0.5, 0.5], mean=mean)
    logits = torch.tensor([[0.2, 0.3, 0.1, 0.3, 0.1]]).log()
    as_they_are = Given(logits.exp(), None)
    fused = fusion.fuse_projected(logits, [None, as_they_are])
    torch.testing.assert_close(fused.exp(), torch.tensor([[0.3, 0.3, 0.0, 0.4, 0.0]]), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("mean", MEANS)
def test_what_the_main_model_cannot_express_counts_for_its_own_distribution(mean):
    member = ["a", "b", "c", "end"]
    logits = torch.tensor([[0.4, 0.3, 0.2, 0.1]]).log()
    projection = Given(torch.tensor([[0.0, 0.5, 0.0, 0.0]]), torch.tensor([[0.2, 0.3]]))
    fused = make_fusion(member, weights=[0.0, 1.0], mean=mean).fuse_projected(logits, [None, projection])
    torch.testing.assert_close(fused.exp(), torch.tensor([[0.2, 0.65, 0.1, 0.05]]), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("mean", MEANS)
def test_a_member_that_has_no_mass_leaves_its_weight_to_the_main_model(mean):
    member = make_members((16,))[0]
    logits = make_logits([member])[0]
    fusion = make_fusion(member, weights=[0.5, 0.5], mean=mean)
    full = make_projections(member, 1)[0]
    partly = Given(full.probs, None, torch.tensor([True, False, True]))
    fused = fusion.fuse_projected(logits, [None, partly])
    close(fused[1], fusion.fuse_projected(logits, [None, None])[1])
    close(fused[[0, 2]], fusion.fuse_projected(logits, [None, full])[[0, 2]])


@pytest.mark.parametrize("settings", [{"weights": [1.0, 0.0]}, {"weights": [0.5, 0.5], "trust": 0.0}])
def test_all_weight_on_main_or_no_trust_is_the_main_model_alone(settings):
    member = make_members((16,))[0]
    logits = make_logits([member])[0]
    fused = make_fusion(member, **settings).fuse_projected(logits, [None, *make_projections(member, 1)])
    for row in range(3):
        expected = over_ids(member, read(member, logits[row].tolist()))
        assert fused[row].exp().tolist() == pytest.approx(expected, abs=TOLERANCE)


def test_where_the_main_model_would_end_the_step_is_left_to_it():
    member = make_members((16,))[0]
    logits = make_logits([member], batch=2)[0]
    logits[0, -1] = 20.0
    projections = [None, *make_projections(member, 1, batch=2)]
    settings = {"weights": [0.5, 0.5]}
    fused = make_fusion(member, main_ends=True, **settings).fuse_projected(logits, projections)
    close(fused[0], make_fusion(member, trust=0.0, **settings).fuse_projected(logits, projections)[0])
    close(fused[1], make_fusion(member, **settings).fuse_projected(logits, projections)[1])


@pytest.mark.parametrize("mean", MEANS)
def test_a_batch_of_many_is_many_batches_of_one(mean):
    member = make_members((16,))[0]
    logits = make_logits([member], batch=5)[0]
    projection = make_projections(member, 1, batch=5)[0]
    fusion = make_fusion(member, weights=[0.4, 0.6], mean=mean)
    together = fusion.fuse_projected(logits, [None, projection])
    for row in range(5):
        one = Given(projection.probs[row : row + 1], None)
        close(together[row], fusion.fuse_projected(logits[row : row + 1], [None, one])[0])


def test_logits_and_projections_stay_as_they_were():
    member = ["a", "b", "a", "end"]
    logits = make_logits([member])[0].to(torch.bfloat16)
    projection = Given(torch.full((3, 4), 0.2), torch.full((3, 2), 0.1), torch.tensor([True, False, True]))
    before = [logits.clone(), projection.probs.clone(), projection.residual.clone()]
    fusion = make_fusion(member, weights=[0.4, 0.6], trust=0.5)
    assert fusion.fuse_projected(logits, [None, projection]).dtype == torch.float32
    assert all(torch.equal(*pair) for pair in zip(before, (logits, projection.probs, projection.residual), strict=True))
    assert fusion.num_bytes > 0


def test_distributions_that_were_not_projected_are_refused():
    member = make_members((16,))[0]
    with pytest.raises(ValueError, match="needs projected distributions; that of member 1 is not"):
        make_fusion(member, weights=[0.5, 0.5]).fuse(make_logits([member, member]))
