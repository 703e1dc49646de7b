from __future__ import annotations

import math

import pytest
import torch

from deepen_llm.errors import ConfigError
from deepen_llm.fusion.relative.build import build_from
from deepen_llm.fusion.relative.member_space import MemberSpace
from deepen_llm.fusion.relative.settings import RelativeConfig
from tests import reference
from tests.fusion.fused import Fused
from tests.rounding import rounding

SEARCHES = ["multiplicative", "gradient"]
FORMS = [None, 6]


def make_spaces(sizes, num_common, hidden=12, num_special=1, seed=0):
    """Members whose common tokens have alike embeddings: a random rotation of one shared vector, and some noise.

    Ids 0 to `num_special - 1` may not come, but for the last of them, which is end-of-sequence.
    """
    generator = torch.Generator().manual_seed(seed)
    common = torch.randn(num_common, hidden, generator=generator)
    spaces = []
    for size in sizes:
        embeddings = torch.randn(size, hidden, generator=generator)
        places = num_special + torch.randperm(size - num_special, generator=generator)[:num_common]
        rotation = torch.linalg.qr(torch.randn(hidden, hidden, generator=generator)).Q
        embeddings[places] = common @ rotation + 0.1 * torch.randn(num_common, hidden, generator=generator)
        allowed = torch.ones(size, dtype=torch.bool)
        allowed[: num_special - 1] = False
        spaces.append(MemberSpace(embeddings, places, allowed, (num_special - 1,)))
    return spaces


def make_fusion(spaces, **settings):
    """Relative fusion in its frame; over every token unless `max_candidates` says otherwise, or the form is sampled.

    What was projected goes through the anchors, too, unless `maps` says otherwise.
    """
    main, weights = settings.pop("main", 0), settings.pop("weights", None)
    store, progress = settings.pop("store", None), settings.pop("progress", None)
    if settings.get("form") != "sampled":
        settings.setdefault("max_candidates", None)
    config = RelativeConfig(**{"maps": "all", **settings})
    method = build_from(spaces, config, main, store=store, progress=progress)
    return Fused(
        method,
        [canonical_ids(space, align_eos=config.align_eos) for space in spaces],
        main=main,
        weights=weights,
        trust=config.trust,
        main_ends=config.main_ends,
        eos_ids=spaces[main].eos_ids,
        devices=[space.embeddings.device for space in spaces],
    )


def canonical_ids(space, *, align_eos=True):
    """What may come counts for itself, but for ends of sequence where these count as the first."""
    ids = [token_id if allowed else -1 for token_id, allowed in enumerate(space.allowed.tolist())]
    for token_id in space.eos_ids if align_eos else ():
        ids[token_id] = space.eos_ids[0]
    return ids


def tolerance(spaces, num_steps=5):
    """A search of so many steps over all tokens and anchors, after a softmax and a product with the matrix."""
    longest = max(max(len(space.allowed), len(space.anchor_ids)) for space in spaces)
    return rounding(longest, num_steps + 2)


def make_logits(spaces, batch=3, seed=0, scale=3.0):
    generator = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(batch, len(space.allowed), generator=generator) for space in spaces]


BETWEEN_TWO = 2 * rounding(num_terms=40, num_steps=7)
"""Of spaces of at most 40 tokens."""


def close(left, right, atol=BETWEEN_TWO):
    """Both are float32 computations, each as far from the exact one as its sums and steps allow."""
    torch.testing.assert_close(left.exp(), right.exp(), atol=atol, rtol=0)


def fuse_by_reference(spaces, logits, row, *, main, weights, align_eos, trust, search):
    anchor_ids = [space.anchor_ids.tolist() + ([space.eos_ids[0]] if align_eos else []) for space in spaces]
    relatives = [
        reference.relative_matrix(space.embeddings.double().tolist(), ids, len(space.allowed))
        for space, ids in zip(spaces, anchor_ids, strict=True)
    ]
    read = [
        reference.read(rows[row].double().tolist(), space.allowed.tolist(), space.eos_ids, align_eos)
        for space, rows in zip(spaces, logits, strict=True)
    ]
    if "num_candidates" in search:
        members = [
            reference.Member(relative, ids, space.allowed.tolist())
            for relative, ids, space in zip(relatives, anchor_ids, spaces, strict=True)
        ]
        found = reference.fuse_candidates(read, members, weights, main, search)
    else:
        found = reference.fuse(read, relatives, weights, main, search)
    return reference.trusting(reference.softmax(read[main]), found, trust)


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize(
    ("sizes", "num_common", "batch", "settings"),
    [
        ((5, 7), 2, 1, {}),
        ((7, 5), 3, 2, {"weights": [0.8, 0.2]}),
        ((13, 29), 11, 2, {"align_eos": False}),
        ((23, 17, 9), 7, 1, {"main": 2, "weights": [0.5, 0.2, 0.3]}),
        ((32, 35), 29, 3, {"trust": 0.4}),
    ],
)
def test_the_exact_form_equals_the_reference_loops(sizes, num_common, batch, settings, search):
    spaces = make_spaces(sizes, num_common, num_special=2)
    logits = make_logits(spaces, batch)
    settings = {"main": 0, "weights": [1 / len(sizes)] * len(sizes), "align_eos": True, "trust": 1.0, **settings}

    fused = make_fusion(spaces, search=search, **settings).fuse(logits)

    assert fused.dtype == torch.float32 and fused.shape == (batch, sizes[settings["main"]])
    options = {"search": search, "num_steps": 5, "learning_rate": 0.15}
    for row in range(batch):
        expected = fuse_by_reference(spaces, logits, row, **settings, search=options)
        assert fused[row].exp().tolist() == pytest.approx(expected, abs=tolerance(spaces))


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize(
    ("sizes", "num_common", "num_candidates", "settings"),
    [
        ((5, 7), 2, 1, {}),
        ((13, 29), 11, 4, {"align_eos": False}),
        ((23, 17, 9), 7, 5, {"main": 2, "weights": [0.5, 0.2, 0.3]}),
        ((32, 35), 29, 8, {"trust": 0.4}),
    ],
)
def test_the_search_over_candidates_equals_the_reference_loops(sizes, num_common, num_candidates, settings, search):
    spaces = make_spaces(sizes, num_common, num_special=2)
    logits = make_logits(spaces, batch=3)
    settings = {"main": 0, "weights": [1 / len(sizes)] * len(sizes), "align_eos": True, "trust": 1.0, **settings}

    fused = make_fusion(spaces, search=search, max_candidates=num_candidates, **settings).fuse(logits)

    options = {"search": search, "num_steps": 5, "learning_rate": 0.15, "num_candidates": num_candidates}
    for row in range(3):
        expected = fuse_by_reference(spaces, logits, row, **settings, search=options)
        assert fused[row].exp().tolist() == pytest.approx(expected, abs=tolerance(spaces))


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("trust", [0.5, 1.0])
def test_candidates_as_many_as_tokens_are_the_exact_form(search, trust):
    spaces = make_spaces((20, 31), 15, num_special=3)
    logits = make_logits(spaces)

    candidates = make_fusion(spaces, search=search, trust=trust, max_candidates=31).fuse(logits)

    close(candidates, make_fusion(spaces, search=search, trust=trust).fuse(logits))


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("max_candidates", [1, 6, None])
@pytest.mark.parametrize("trust", [0.0, 0.3, 1.0])
def test_rows_sum_to_one_and_only_what_must_not_come_is_impossible(search, max_candidates, trust):
    spaces = make_spaces((40, 30, 20), 12, num_special=4)
    logits = make_logits(spaces, batch=4, scale=6.0)

    fused = make_fusion(spaces, search=search, max_candidates=max_candidates, trust=trust).fuse(logits)

    torch.testing.assert_close(fused.exp().sum(dim=-1), torch.ones(4), atol=tolerance(spaces), rtol=0)
    assert torch.equal(fused == -math.inf, ~spaces[0].allowed.expand(4, -1))


@pytest.mark.parametrize("max_candidates", FORMS)
@pytest.mark.parametrize("num_copies", [2, 3])
def test_copies_of_one_model_are_that_model(max_candidates, num_copies):
    spaces = make_spaces((40,), 20) * num_copies
    logits = make_logits(spaces[:1]) * num_copies

    fused = make_fusion(spaces, max_candidates=max_candidates).fuse(logits)

    close(fused, logits[0].log_softmax(dim=-1))


@pytest.mark.parametrize("max_candidates", FORMS)
def test_copies_of_one_model_under_the_published_search_differ_by_its_weight_decay_alone(max_candidates):
    spaces = make_spaces((40,), 20) * 2
    logits = make_logits(spaces[:1]) * 2

    fused = make_fusion(spaces, search="gradient", max_candidates=max_candidates).fuse(logits)

    close(fused, logits[0].log_softmax(dim=-1), atol=0.04)
    assert torch.equal(fused.argmax(dim=-1), logits[0].argmax(dim=-1))


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("max_candidates", FORMS)
@pytest.mark.parametrize("settings", [{"weights": [1.0, 0.0]}, {"trust": 0.0}, {"num_steps": 0}])
def test_all_weight_on_main_no_trust_or_no_step_is_the_main_model_alone(search, max_candidates, settings):
    spaces = make_spaces((30, 25), 12)
    logits = make_logits(spaces)

    fused = make_fusion(spaces, search=search, max_candidates=max_candidates, **settings).fuse(logits)

    assert torch.equal(fused, logits[0].log_softmax(dim=-1))


@pytest.mark.parametrize("max_candidates", FORMS)
def test_the_order_of_the_other_members_does_not_matter(max_candidates):
    spaces = make_spaces((30, 25, 20), 12)
    logits = make_logits(spaces)
    turned = [0, 2, 1]

    one = make_fusion(spaces, weights=[0.5, 0.3, 0.2], max_candidates=max_candidates).fuse(logits)
    other = make_fusion([spaces[i] for i in turned], weights=[0.5, 0.2, 0.3], max_candidates=max_candidates).fuse(
        [logits[i] for i in turned]
    )

    close(one, other)


@pytest.mark.parametrize("max_candidates", FORMS)
def test_which_member_is_main_decides_the_vocabulary_and_nothing_else_of_the_target(max_candidates):
    spaces = make_spaces((30, 25), 12)
    logits = make_logits(spaces)

    second = make_fusion(spaces, main=1, weights=[0.3, 0.7], max_candidates=max_candidates).fuse(logits)
    turned = make_fusion(spaces[::-1], main=0, weights=[0.7, 0.3], max_candidates=max_candidates).fuse(logits[::-1])

    assert second.shape == (3, 25)
    close(second, turned)


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("max_candidates", FORMS)
def test_a_batch_of_many_is_many_batches_of_one(search, max_candidates):
    spaces = make_spaces((30, 25, 20), 12)
    logits = make_logits(spaces, batch=5)
    fusion = make_fusion(spaces, search=search, max_candidates=max_candidates)

    together = fusion.fuse(logits)

    for row in range(5):
        close(together[row], fusion.fuse([rows[row : row + 1] for rows in logits])[0])


@pytest.mark.parametrize("max_candidates", FORMS)
def test_a_member_without_weight_is_as_good_as_absent(max_candidates):
    spaces = make_spaces((30, 25, 20), 12)
    logits = make_logits(spaces)

    three = make_fusion(spaces, weights=[0.6, 0.4, 0.0], max_candidates=max_candidates).fuse(logits)
    two = make_fusion(spaces[:2], weights=[0.6, 0.4], max_candidates=max_candidates).fuse(logits[:2])

    close(three, two)


def test_more_weight_on_the_other_member_brings_more_of_its_choice():
    spaces = make_spaces((31, 31), 30)
    logits = [torch.zeros(1, 31), torch.zeros(1, 31)]
    mains, others = int(spaces[0].anchor_ids[3]), int(spaces[1].anchor_ids[3])
    logits[1][0, others] = 12.0

    chances = [
        make_fusion(spaces, weights=[1 - weight, weight]).fuse(logits)[0, mains].exp().item()
        for weight in (0.2, 0.5, 0.8)
    ]

    assert chances == sorted(chances) and chances[0] > 1.5 / 31 and chances[2] > 0.5


def test_what_another_member_is_sure_of_becomes_a_candidate_however_small_their_number():
    spaces = make_spaces((81, 81), 80)
    logits = [torch.zeros(1, 81), torch.zeros(1, 81)]
    mains, others = int(spaces[0].anchor_ids[5]), int(spaces[1].anchor_ids[5])
    logits[0][0, mains] = -4.0
    logits[0][0, [1, 2, 3]] = 2.0
    logits[1][0, others] = 14.0

    fused = make_fusion(spaces, weights=[0.4, 0.6], max_candidates=2).fuse(logits)

    assert fused.argmax().item() == mains


def test_trust_goes_from_the_main_model_to_what_was_found_in_logprobs():
    spaces = make_spaces((30, 25), 12)
    logits = make_logits(spaces)
    alone, half, found = (make_fusion(spaces, trust=trust).fuse(logits) for trust in (0.0, 0.5, 1.0))

    close(half, (0.5 * alone + 0.5 * found).log_softmax(dim=-1))


@pytest.mark.parametrize("max_candidates", FORMS)
def test_where_the_main_model_would_end_the_step_is_left_to_it(max_candidates):
    spaces = make_spaces((30, 25), 12)
    logits = make_logits(spaces, batch=2)
    logits[0][0, 0] = 20.0  # the main model's end-of-sequence, in the first row alone
    logits[1][0, 7] = 40.0
    alone = logits[0].log_softmax(dim=-1)

    fused = make_fusion(spaces, main_ends=True, weights=[0.3, 0.7], max_candidates=max_candidates).fuse(logits)
    plain = make_fusion(spaces, main_ends=False, weights=[0.3, 0.7], max_candidates=max_candidates).fuse(logits)

    assert torch.equal(fused[0], alone[0]) and not torch.allclose(plain[0], alone[0])
    assert torch.equal(fused[1], plain[1])


@pytest.mark.parametrize("max_candidates", FORMS)
def test_ends_of_different_names_meet_in_one_anchor(max_candidates):
    spaces = make_spaces((31, 31), 30, num_special=1)
    logits = [torch.zeros(1, 31), torch.zeros(1, 31)]
    logits[1][0, 0] = 15.0  # the other member wants to end; the main model has no opinion

    aligned = make_fusion(spaces, max_candidates=max_candidates).fuse(logits)
    apart = make_fusion(spaces, align_eos=False, max_candidates=max_candidates).fuse(logits)

    assert aligned[0, 0].exp() > 0.4
    assert apart[0, 0].exp() < 0.2


@pytest.mark.parametrize("max_candidates", FORMS)
def test_all_ends_of_a_member_count_as_its_first_where_aligned(max_candidates):
    spaces = make_spaces((30,), 12, num_special=3)
    allowed = torch.ones(30, dtype=torch.bool)
    spaces = [MemberSpace(spaces[0].embeddings, spaces[0].anchor_ids, allowed, (1, 0, 1, 2))] * 2
    logits = make_logits(spaces[:1]) * 2
    alone = logits[0].softmax(dim=-1)

    fused = make_fusion(spaces, max_candidates=max_candidates).fuse(logits).exp()

    torch.testing.assert_close(fused[:, 1], alone[:, :3].sum(dim=-1), atol=2 * tolerance(spaces), rtol=0)
    assert (fused[:, [0, 2]] == 0).all()
    torch.testing.assert_close(fused[:, 3:], alone[:, 3:], atol=2 * tolerance(spaces), rtol=0)
    apart = make_fusion(spaces, align_eos=False, max_candidates=max_candidates).fuse(logits).exp()
    torch.testing.assert_close(apart, alone, atol=2 * tolerance(spaces), rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_logits_of_any_float_type_give_float32_logprobs(dtype):
    spaces = make_spaces((30, 25), 12)
    logits = [rows.to(dtype) for rows in make_logits(spaces)]
    fusion = make_fusion(spaces, max_candidates=6)

    fused = fusion.fuse(logits)

    assert fused.dtype == torch.float32
    assert torch.equal(fused, fusion.fuse([rows.float() for rows in logits]))


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("max_candidates", FORMS)
def test_fusion_runs_in_inference_mode_and_leaves_the_logits_alone(search, max_candidates):
    spaces = make_spaces((30, 25), 12)
    spaces = [MemberSpace(s.embeddings, s.anchor_ids, s.allowed, (0, 1)) for s in spaces]
    fusion = make_fusion(spaces, search=search, max_candidates=max_candidates, trust=0.9, main_ends=True)
    with torch.inference_mode():
        logits = make_logits(spaces)
        before = [rows.clone() for rows in logits]
        fused = fusion.fuse(logits)

    assert fused.is_inference()
    assert fused.exp().sum(dim=-1).tolist() == pytest.approx([1.0] * 3, abs=tolerance(spaces))
    assert all(torch.equal(rows, copy) for rows, copy in zip(logits, before, strict=True))


@pytest.mark.parametrize("max_candidates", FORMS)
def test_logits_far_apart_stay_free_of_nan(max_candidates):
    spaces = make_spaces((30, 25), 12)
    logits = [torch.full((1, 30), -300.0), torch.full((1, 25), -300.0)]
    logits[0][0, spaces[0].anchor_ids[0]] = 0.0
    logits[1][0, spaces[1].anchor_ids[1]] = 0.0

    fused = make_fusion(spaces, max_candidates=max_candidates).fuse(logits)

    assert not fused.isnan().any()
    assert fused.exp().sum().item() == pytest.approx(1.0, abs=tolerance(spaces))


def test_the_candidate_form_stays_near_the_exact_one():
    spaces = make_spaces((800, 600), 400, hidden=64, seed=3)
    generator = torch.Generator().manual_seed(4)
    tastes = 2.5 * torch.randn(200, 400, generator=generator)
    logits = make_logits(spaces, batch=200, scale=1.5)
    for space, rows in zip(spaces, logits, strict=True):
        rows[:, space.anchor_ids] += tastes

    exact = make_fusion(spaces).fuse(logits)
    near = make_fusion(spaces, max_candidates=32).fuse(logits)

    gaps = (exact.exp() * (exact - near)).sum(dim=-1)
    assert (exact.argmax(dim=-1) != logits[0].argmax(dim=-1)).float().mean() > 0.1
    assert (near.argmax(dim=-1) == exact.argmax(dim=-1)).float().mean() >= 0.99
    assert gaps.median() < 0.01 and gaps.max() < 0.1


def test_memory_is_what_the_matrices_take():
    fusion = make_fusion(make_spaces((30, 25), 12))

    matrices = (31 + 26) * 13 * 4
    assert matrices < fusion.num_bytes < matrices + 2000


@pytest.mark.parametrize("numbers", [(3, 4), (0, 0)])
def test_members_that_name_different_anchors_are_refused(numbers):
    spaces = [
        MemberSpace(torch.ones(9, 2), torch.arange(1, 1 + number), torch.ones(9, dtype=torch.bool), (0,))
        for number in numbers
    ]

    with pytest.raises(ConfigError, match=r"same anchors, one at least; got \[\d, \d\] anchors: pass anchor_ids"):
        make_fusion(spaces)


def test_a_member_without_an_end_cannot_be_aligned():
    spaces = make_spaces((30, 25), 12)
    spaces[1] = MemberSpace(spaces[1].embeddings, spaces[1].anchor_ids, spaces[1].allowed)

    with pytest.raises(ConfigError, match=r"members \[1\] have none: set align_eos=False"):
        make_fusion(spaces)
    assert make_fusion(spaces, align_eos=False).fuse(make_logits(spaces)).shape == (3, 30)


@pytest.mark.gpu
@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("max_candidates", FORMS)
def test_members_on_different_devices_give_what_one_device_gives(search, max_candidates):
    spaces = make_spaces((30, 25), 12)
    logits = make_logits(spaces)
    expected = make_fusion(spaces, search=search, max_candidates=max_candidates).fuse(logits)
    for devices in (("cuda", "cuda"), ("cuda", "cpu"), ("cpu", "cuda")):
        moved = [
            MemberSpace(space.embeddings.to(device), space.anchor_ids, space.allowed, space.eos_ids)
            for space, device in zip(spaces, devices, strict=True)
        ]

        fused = make_fusion(moved, search=search, max_candidates=max_candidates).fuse(
            [rows.to(device) for rows, device in zip(logits, devices, strict=True)]
        )

        assert fused.device.type == devices[0]
        close(fused.cpu(), expected)
