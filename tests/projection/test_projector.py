"""Projections against an enumeration of everything that a member could say."""

from __future__ import annotations

import pytest
import torch

from deepen_llm.projection import ExpansionLimits, Projector
from tests import reference
from tests.projection.toys import END, Answers, FewTokens, first_token, random_model
from tests.rounding import rounding
from tests.vocabularies import load_toy

MAINS = ("gpt2", "llama", "unigram")
CHARACTERS = [bytes((byte,)) for byte in "é世".encode()]
MEMBERS = {
    "letters": (FewTokens("t", "h", "e", " ", END), 5, ["", "t", "th", " th", "e "]),
    "word pieces": (
        FewTokens(None, "the", " the", " there", "re", " dog", " ", "s", END),
        4,
        ["", " the", " ", "ther"],
    ),
    "words and letters": (FewTokens("d", "o", "g", " dog", "dog", " d", " and", END), 4, ["", " d", " do", "dog"]),
    "parts of characters": (FewTokens("a", *CHARACTERS, "世", END), 4, ["", "é", "a", "世"]),
    "signs and spaces": (FewTokens("?", " ", "  ", "\n", "It", "'s", END, END), 4, ["", " ", "It", "  "]),
}
CASES = [(name, pending) for name, (_, _, open_texts) in MEMBERS.items() for pending in open_texts]


@pytest.mark.parametrize("kind", MAINS)
@pytest.mark.parametrize(("name", "pending"), CASES)
def test_without_limits_a_projection_equals_enumeration(kind, name, pending):
    main, (member, max_tokens, _) = load_toy(kind), MEMBERS[name]
    answers = Answers(random_model(member, max_tokens, seed=len(pending)))

    projection = answers.drive(Projector(member, main, ExpansionLimits.lifted()).expand(pending.encode(), {}))

    expected = reference.project_as_text(
        member.tokens, member.eos_ids, answers.model, pending.encode(), lambda text: first_token(main, text), len(main)
    )
    assert sum(expected) == pytest.approx(1)
    assert projection.probs.dtype == torch.float64
    assert projection.probs.tolist() == pytest.approx(expected, abs=1e-9)
    assert float(projection.probs.sum()) == pytest.approx(1, abs=1e-12)
    assert (projection.residual, projection.truncated_mass, projection.has_mass) == (None, 0.0, True)


@pytest.mark.parametrize("kind", MAINS)
def test_pending_bytes_may_end_inside_a_character(kind):
    main, (member, max_tokens, _) = load_toy(kind), MEMBERS["parts of characters"]
    pending = "a世".encode()[:2]
    answers = Answers(random_model(member, max_tokens))

    projection = answers.drive(Projector(member, main, ExpansionLimits.lifted()).expand(pending, {}))

    expected = reference.project_as_text(
        member.tokens, member.eos_ids, answers.model, pending, lambda text: first_token(main, text), len(main)
    )
    assert projection.probs.tolist() == pytest.approx(expected, abs=1e-9)


def test_what_was_proven_is_not_expanded_further():
    main, member = load_toy("gpt2"), FewTokens("a", " b", "c", END)
    answers = Answers(random_model(member, 4))
    answers.drive(Projector(member, main, ExpansionLimits.lifted()).expand(b"", {}))
    paths = {path for wanted in answers.asked for path in wanted}
    assert (0,) in paths and (0, 0, 0) in paths
    assert (0, 1) not in paths  # "a b": what stands before the space is settled


@pytest.mark.parametrize("kind", MAINS)
@pytest.mark.parametrize("name", ["letters", "word pieces"])
def test_where_no_merge_reaches_back_longer_tokens_alone_tell_what_is_open(kind, name):
    main, (member, max_tokens, _) = load_toy(kind), MEMBERS[name]
    answers = Answers(random_model(member, max_tokens))
    limits = ExpansionLimits(min_mass=0.0, max_rows=10**6, max_passes=10**6, num_tokens=10**6)
    projection = answers.drive(Projector(member, main, limits).expand(b"", {}))
    exact = answers.drive(Projector(member, main, ExpansionLimits.lifted()).expand(b"", {}))
    assert float((projection.probs - exact.probs).abs().sum()) / 2 < 0.02


@pytest.mark.parametrize("kind", MAINS)
def test_at_a_boundary_every_token_counts_as_it_stands(kind):
    main, (member, _, _) = load_toy(kind), MEMBERS["word pieces"]
    projector = Projector(member, main, ExpansionLimits.lifted())
    logits = torch.randn(3, len(member), generator=torch.Generator().manual_seed(0))

    probs = projector.to_probs(logits)
    projected, residual = projector.project_closed(probs)

    assert residual is None
    torch.testing.assert_close(probs.sum(dim=-1), torch.ones(3), atol=rounding(len(member)), rtol=0)
    assert not probs[:, 0].any()  # the token that must never come
    expected = torch.zeros(3, len(main))
    for token_id in range(1, len(member)):
        expected[:, first_token(main, member.tokens[token_id] or b"")] += probs[:, token_id]
    torch.testing.assert_close(projected, expected, atol=rounding(len(member), 2), rtol=0)


def test_all_ends_of_sequence_count_for_the_main_models_first():
    main, (member, _, _) = load_toy("llama"), MEMBERS["signs and spaces"]
    projector = Projector(member, main, ExpansionLimits.lifted())
    probs = torch.zeros(1, len(member))
    probs[0, list(member.eos_ids)] = torch.tensor([0.25, 0.75])
    assert projector.project_closed(probs)[0][0, main.eos_ids[0]] == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_probs_of_short_floats_are_float32(dtype):
    projector = Projector(FewTokens("a", None, END), load_toy("gpt2"), ExpansionLimits.lifted())
    probs = projector.to_probs(torch.tensor([[1.0, 9.0, 1.0]], dtype=dtype))
    assert probs.dtype == torch.float32
    assert probs.tolist() == [[0.5, 0.0, 0.5]]


def test_only_distributions_with_real_mass_on_an_open_token_are_open():
    member = FewTokens(" t", "?", END)
    limits = ExpansionLimits(min_mass=0.1, max_rows=1, max_passes=1, num_tokens=8)
    projector = Projector(member, load_toy("gpt2"), limits)
    assert projector.find_open(torch.tensor([[0.2, 0.8, 0.0], [0.1, 0.9, 0.0], [0.0, 1.0, 0.0]])) == [
        True,
        False,
        False,
    ]


def test_what_the_main_model_cannot_express_stays_in_the_members_own_tokens():
    member = FewTokens("a", "☃", "a☃", END)
    main = load_toy("llama without bytes")
    answers = Answers(lambda path: [0.1, 0.5, 0.3, 0.1] if not path else [0.0, 0.0, 0.0, 1.0])
    projector = Projector(member, main, ExpansionLimits(min_mass=0.01, max_rows=4, max_passes=4, num_tokens=8))

    projected, residual = projector.project_closed(answers.probs()[None])
    projection = answers.drive(projector.expand(b"", {}))

    assert residual is not None and residual.tolist() == [[0.0, 0.5, 0.0, 0.0]]
    assert projected[0, first_token(main, b"a")].item() == pytest.approx(0.4)
    assert projection.residual is not None and projection.residual.tolist() == residual[0].tolist()
    assert float(projection.probs.sum() + projection.residual.sum()) == pytest.approx(1)


def test_a_token_is_expected_to_grow_where_the_main_model_expects_a_longer_one():
    main, member = load_toy("gpt2"), FewTokens(" t", " d", "?", END)
    projector = Projector(member, main, ExpansionLimits(min_mass=0.1, max_rows=1, max_passes=1, num_tokens=8))
    expected = torch.zeros(len(main))
    expected[first_token(main, b" the")] = 0.2
    assert projector.is_expected_to_grow(torch.tensor([0.3, 0.3, 0.4, 0.0]), expected)
    assert not projector.is_expected_to_grow(torch.tensor([0.05, 0.5, 0.45, 0.0]), expected)
    assert not projector.is_expected_to_grow(torch.tensor([0.3, 0.3, 0.4, 0.0]), 0.4 * expected)


def test_a_members_end_that_is_not_aligned_is_left_in_its_own_tokens():
    main, member = load_toy("gpt2"), FewTokens("a", "b", END)
    probs = torch.tensor([[0.25, 0.25, 0.5]])
    aligned, nothing = Projector(member, main, ExpansionLimits.lifted()).project_closed(probs)
    assert nothing is None and aligned[0, main.eos_ids[0]] == 0.5
    apart, residual = Projector(member, main, ExpansionLimits.lifted(), align_eos=False).project_closed(probs)
    assert apart[0, main.eos_ids[0]] == 0
    assert residual.tolist() == [[0.0, 0.0, 0.5]]
