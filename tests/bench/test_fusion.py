from __future__ import annotations

import pytest
import torch

from deepen_llm import Ensemble
from deepen_llm.bench import fusion as fusion_module
from deepen_llm.bench.fusion import FusionBenchmark, compare
from deepen_llm.bench.recording import RecordingFusion, record_steps
from deepen_llm.bench.reference import fuse_densely
from deepen_llm.bench.synthetic import make_logits, make_members
from deepen_llm.fusion.relative.inverse import InverseSearch
from tests.fusion.relative.test_method import SEARCHES, fuse_by_reference, make_spaces
from tests.fusion.relative.test_method import make_logits as make_random_logits

NAMES = ("the", "The", "she", "see", "seen", "run", "Run", "tea", "red", "one")
WORDS = [f"{space}{name}".encode() for space in ("", " ") for name in NAMES]
VOCABULARIES = [[None, *WORDS, b"left"], [*reversed(WORDS), None, b"right", b" rightly"]]


@pytest.mark.parametrize("search", SEARCHES)
def test_the_dense_reference_equals_the_loops(search):
    spaces = make_spaces((9, 8), 5, num_special=2)
    logits = make_random_logits(spaces, batch=2)
    inverse = InverseSearch(search, 4, 0.2)
    found = fuse_densely(spaces, logits, main=1, weights=[0.3, 0.7], search=inverse)
    settings = {"search": search, "num_steps": 4, "learning_rate": 0.2}
    for row in range(2):
        expected = fuse_by_reference(
            spaces, logits, row, main=1, weights=[0.3, 0.7], align_eos=False, trust=1.0, search=settings
        )
        torch.testing.assert_close(found[row].exp(), torch.tensor(expected, dtype=torch.float64), atol=1e-6, rtol=0)


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


def test_what_does_not_fit_is_left_out(monkeypatch):
    monkeypatch.setattr(fusion_module, "DENSE_BYTES", 100)
    members = make_members(VOCABULARIES, 16)
    figures = FusionBenchmark(members, make_logits(members, 4), form="sampled", num_repetitions=1).run()
    assert figures.comparison is None and figures.dense_published_ms is None
    assert figures.form == "sampled"


def test_a_comparison_is_nothing_for_the_same_and_counts_best_tokens():
    logprobs = torch.log_softmax(torch.tensor([[1.0, 2.0, -torch.inf], [3.0, 1.0, 0.0]]), dim=-1)
    same = compare(logprobs, logprobs)
    assert (same.kl_median, same.kl_p99, same.share_equal) == (0.0, 0.0, 1.0)
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
    class Half:
        num_bytes = 7

        def fuse(self, logits):
            return logits[0] / 2

    method = RecordingFusion(Half())
    first, second = [torch.ones(2, 3), torch.ones(2, 4)], [torch.zeros(1, 3), torch.zeros(1, 4)]
    assert torch.equal(method.fuse(first), torch.full((2, 3), 0.5))
    method.fuse(second)
    assert [tuple(rows.shape) for rows in method.recorded()] == [(3, 3), (3, 4)]
    assert method.num_bytes == 7


def test_the_picture_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    from deepen_llm.bench.plot import plot_cost

    members = make_members(VOCABULARIES, 16)
    figures = FusionBenchmark(members, make_logits(members, 4), num_repetitions=1).run()
    plot_cost([figures, figures], tmp_path / "cost.png")
    assert (tmp_path / "cost.png").read_bytes()[:4] == b"\x89PNG"


def test_made_up_members_share_their_common_tokens_and_are_always_the_same():
    members = make_members(VOCABULARIES, 16, seed=4)
    again = make_members(VOCABULARIES, 16, seed=4)
    for member, twin, tokens in zip(members, again, VOCABULARIES, strict=True):
        assert torch.equal(member.embeddings, twin.embeddings)
        assert member.allowed.tolist() == [token is not None for token in tokens]
    texts = [[tokens[i] for i in member.anchor_ids] for member, tokens in zip(members, VOCABULARIES, strict=True)]
    assert texts[0] == texts[1] and sorted(texts[0]) == sorted(WORDS)
    assert not torch.equal(make_members(VOCABULARIES, 16, seed=5)[0].embeddings, members[0].embeddings)


def test_made_up_tokens_of_one_word_are_alike():
    tokens = [f"{space}{word}".encode() for space in ("", " ") for word in (f"w{i:03d}" for i in range(200))]
    member = make_members([tokens, tokens], 64)[0]
    centred = member.embeddings - member.embeddings.mean(dim=0)
    unit = centred / torch.linalg.vector_norm(centred, dim=1, keepdim=True)
    with_and_without_space = (unit[:200] * unit[200:]).sum(dim=1).mean()
    strangers = (unit[:200] * unit[200:].roll(1, 0)).sum(dim=1).mean()
    assert with_and_without_space > strangers + 0.2
