from __future__ import annotations

import pytest
import torch

from deepen_llm import Ensemble
from deepen_llm.bench import fusion as fusion_module
from deepen_llm.bench.fusion import FusionBenchmark, compare, compare_with_reference
from deepen_llm.bench.recording import RecordingFusion, record_steps
from deepen_llm.bench.synthetic import make_logits, make_members
from deepen_llm.errors import ConfigError
from deepen_llm.fusion.base import Distribution, Distributions, FusionMethod, Step
from deepen_llm.fusion.relative.build import build_from
from deepen_llm.fusion.relative.method import RelativeFusion
from deepen_llm.fusion.relative.settings import RelativeConfig
from tests.bench.test_synthetic import VOCABULARIES
from tests.fusion.relative.test_method import SEARCHES, make_spaces
from tests.fusion.relative.test_method import make_logits as make_random_logits


@pytest.mark.parametrize("search", SEARCHES)
def test_every_figure_is_there_and_the_dense_form_agrees_with_its_reference(search):
    members = make_members(VOCABULARIES, 16)
    logits = make_logits(members, 40)
    told = []
    figures = FusionBenchmark(members, logits, search=search, form="dense", num_compared=10, num_repetitions=2).run(
        told.append
    )
    assert figures.num_tokens == (22, 23) and figures.num_anchors == 20 and figures.hidden == (16, 16)
    assert figures.comparison.num_steps == 10
    assert figures.comparison.share_equal == 1.0
    assert abs(figures.comparison.kl_p99) < 1e-5
    assert len(figures.step_ms.runs) == 2 and figures.step_ms.low > 0
    assert figures.dense_published_ms.median > 0
    assert "building the tables" in told


@pytest.mark.parametrize("search", SEARCHES)
def test_only_the_dense_published_form_must_fit_and_the_comparison_stays(search, monkeypatch):
    members = make_members(VOCABULARIES, 16)
    logits = make_logits(members, 6)
    kept = FusionBenchmark(members, logits, search=search, form="sampled", num_repetitions=1).run()
    monkeypatch.setattr(fusion_module, "DENSE_BYTES", 100)
    figures = FusionBenchmark(members, logits, search=search, form="sampled", num_repetitions=1).run()
    assert kept.dense_published_ms is not None and figures.dense_published_ms is None
    assert figures.dense_bytes == 4 * 20 * (22 + 23)
    assert figures.comparison.share_equal == kept.comparison.share_equal
    assert figures.comparison.kl_p99 == pytest.approx(kept.comparison.kl_p99, abs=1e-5)
    assert figures.form == "sampled"


def test_nothing_is_compared_where_no_step_is_asked_for():
    members = make_members(VOCABULARIES, 16)
    figures = FusionBenchmark(members, make_logits(members, 4), num_compared=0, num_repetitions=1).run()
    assert figures.comparison is None


def test_each_timed_step_is_another_one(monkeypatch):
    members = make_members(VOCABULARIES, 16)
    logits = make_logits(members, 4)
    seen = []
    combine = RelativeFusion.combine

    def watch(method, step):
        if len(step.logprobs) == 1:
            seen.append(step.logprobs)
        return combine(method, step)

    monkeypatch.setattr(RelativeFusion, "combine", watch)
    FusionBenchmark(members, logits, num_compared=0, num_repetitions=5).run()
    expected = logits[0].masked_fill(~members[0].allowed, -torch.inf).log_softmax(dim=-1)
    for at, logprobs in enumerate(seen[:6]):
        torch.testing.assert_close(logprobs[0], expected[at % 4])


def test_recorded_steps_are_compared_with_the_reference():
    spaces = make_spaces((9, 8), 5, num_special=2)
    logits = make_random_logits(spaces, batch=40)
    config = RelativeConfig(reading="token", align_eos=False, max_candidates=None)
    shares = []
    fusion = build_from(spaces, config, 0)
    found = compare_with_reference(fusion, config, spaces, logits, progress=shares.append)
    assert found.num_steps == 40 and found.share_equal == 1.0 and found.kl_p99 < 1e-6
    assert shares == sorted(shares) and shares[-1] == 1.0


def test_a_comparison_is_nothing_for_the_same_and_counts_best_tokens():
    logprobs = torch.log_softmax(torch.tensor([[1.0, 2.0, -torch.inf], [3.0, 1.0, 0.0]]), dim=-1)
    same = compare(logprobs, logprobs)
    assert (same.kl_median, same.kl_p99, same.share_equal) == (0.0, 0.0, 1.0)
    unnormalized = compare(logprobs, logprobs + 0.5)
    assert unnormalized.kl_p99 == pytest.approx(0.0, abs=1e-12)
    other = logprobs.clone()
    other[1] = other[1].flip(0)
    changed = compare(logprobs, other)
    assert changed.share_equal == 0.5 and changed.kl_p99 > 1.0


def test_steps_are_recorded_as_the_fusion_method_sees_them(make_ensemble):
    ensemble: Ensemble = make_ensemble(["a story.", "more"])
    logits = record_steps(ensemble, ["one", "two three"])
    assert len({len(rows) for rows in logits}) == 1
    assert [rows.shape[1] for rows in logits] == [len(member.vocabulary) for member in ensemble.members]
    assert ensemble.generate("still").text is not None


def test_recording_changes_nothing():
    class Half(FusionMethod):
        def combine(self, step):
            return step.logprobs / 2

    def make_step(batch):
        main, other = torch.full((batch, 3), 1 / 3), torch.full((batch, 4), 1 / 4)
        weights = torch.tensor([[0.5, 0.5]] * batch)
        return Step.build(Distributions(1, main.log(), main, [Distribution(0, None, other)], 2), weights)

    method = RecordingFusion(Half())
    first = make_step(2)
    assert torch.equal(method.combine(first), first.logprobs / 2)
    method.combine(make_step(1))
    assert [tuple(rows.shape) for rows in method.recorded()] == [(3, 4), (3, 3)]


def test_steps_of_one_member_alone_are_not_recorded(make_ensemble):
    with pytest.raises(ConfigError, match="give at least two"):
        record_steps(make_ensemble(["a story."], ("bpe",)), ["one"])
