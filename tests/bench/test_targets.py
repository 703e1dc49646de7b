from __future__ import annotations

import dataclasses

import pytest

from deepen_llm.bench.fusion import Comparison, FusionFigures
from deepen_llm.bench.targets import find_growth, find_targets
from deepen_llm.bench.timing import Spread

FIGURES = FusionFigures(
    search="multiplicative",
    form="sampled",
    num_tokens=(32_768, 32_000),
    num_anchors=20_000,
    hidden=(896, 896),
    build_s=30.0,
    restart_s=0.2,
    member_bytes=(16_000_000, 101_000_000),
    step_ms=Spread((2.0, 4.0, 9.0)),
    softmax_ms=Spread((1.0,)),
    batch_ms=Spread((40.0,)),
    dense_published_ms=Spread((2100.0,)),
    dense_bytes=5_000_000_000,
    comparison=Comparison(2_000, 2e-4, 5e-3, 0.9951),
    every_token=None,
    device="cpu",
)


def change(**values):
    return dataclasses.replace(FIGURES, **values)


def limits(figures):
    return {name: target.limit for name, target in find_targets(figures).items()}


def test_every_target_that_applies_at_32k_is_there_and_says_whether_it_is_met():
    met = {name: target.is_met for name, target in find_targets(FIGURES).items()}
    assert met == {
        "build_s": True,
        "restart_s": True,
        "member_bytes": False,
        "share_equal": True,
        "kl_median": False,
        "kl_p99": True,
        "step_ms": False,
        "times_faster": True,
    }
    assert limits(FIGURES)["step_ms"] == 3.0


def test_larger_vocabularies_other_forms_and_devices_have_targets_of_their_own():
    large = limits(change(num_tokens=(151_646, 200_000), dense_published_ms=None))
    assert large["build_s"] == pytest.approx(600 * 351_646 / 150_000) and limits(FIGURES)["build_s"] == 600
    assert large["step_ms"] == 5.0 and "times_faster" not in large
    assert "times_faster" not in limits(change(num_tokens=(8_192, 8_192)))
    assert "step_ms" not in limits(change(form="dense"))
    assert "step_ms" not in limits(change(num_tokens=(32_000, 32_000, 32_000)))
    on_gpu = limits(change(device="cuda"))
    assert (on_gpu["step_ms"], on_gpu["batch_ms"]) == (0.15, 0.6) and "times_faster" not in on_gpu


def test_too_few_steps_do_not_tell():
    few = find_targets(change(comparison=Comparison(1_999, 1e-5, 1e-3, 1.0)))
    assert few["share_equal"].is_met and not few["share_equal"].is_known
    assert find_targets(FIGURES)["share_equal"].is_known
    assert "share_equal" not in find_targets(change(comparison=None))


def test_growth_needs_both_sizes_and_leaves_the_softmax_aside():
    large = change(num_tokens=(151_646, 200_000), step_ms=Spread((10.0,)), softmax_ms=Spread((4.0,)))
    growth = find_growth([FIGURES, change(num_tokens=(8_192, 8_192)), large])
    assert growth.value == 2.0 and growth.is_met
    assert find_growth([FIGURES]) is None and find_growth([large]) is None
