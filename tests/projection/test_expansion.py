"""Projections within limits: what is expanded, what that costs, what is left out."""

from __future__ import annotations

import math

import pytest
import torch

from deepen_llm.projection import ExpansionLimits, Projector
from tests import reference
from tests.projection.toys import END, Answers, FewTokens, first_token, random_model, table_model
from tests.vocabularies import load_toy

LETTERS = FewTokens("t", "h", "e", " ", "s", END)
PIECES = FewTokens("the", "th", "t", "h", "e", "re", "there", "s", END)
T, H = 2, 3


def limits_of(**changes):
    settings = {"min_mass": 0.01, "max_rows": 4, "max_passes": 4, "num_tokens": 32, **changes}
    return ExpansionLimits(**settings)


def read(answers, member, pending=b"", kind="gpt2", *, known=None, max_length=math.inf, own_path=(), **changes):
    projector = Projector(member, load_toy(kind), limits_of(**changes))
    known = {(): answers.probs()} if known is None else known
    return answers.drive(projector.expand(pending, known, max_length, own_path=own_path))


def said_as(projection, text, kind="gpt2"):
    return projection.probs[first_token(load_toy(kind), text)].item()


@pytest.mark.parametrize("path", [(), (T,), (T, H)])
@pytest.mark.parametrize("settings", [{"max_rows": 1}, {"max_rows": 2, "max_passes": 1}, {"max_passes": 0}, {}])
@pytest.mark.parametrize("kind", ["gpt2", "llama", "unigram"])
def test_rows_and_passes_stay_within_limits_and_the_sum_is_one(path, settings, kind):
    answers = Answers(random_model(PIECES, 6, seed=3))
    limits = limits_of(**settings)
    pending = b"".join(PIECES.tokens[token_id] for token_id in path)

    projection = read(answers, PIECES, pending, kind, own_path=path, **settings)

    assert float(projection.probs.sum()) == pytest.approx(1, abs=1e-12)
    assert len(answers.asked) == projection.num_passes <= limits.max_passes
    assert sum(map(len, answers.asked)) == projection.num_rows
    assert max(map(len, answers.asked), default=0) <= limits.max_rows
    assert 0 <= projection.truncated_mass < 1
    assert projection.num_passes > 0 or not limits.max_passes


def test_less_mass_than_counts_as_real_is_not_expanded():
    member = FewTokens(" t", " s", "?", "he", END)
    answers = Answers(table_model(member, {(): {" t": 0.3, " s": 0.2, "?": 0.5}, (" t",): {"he": 1.0}}))
    projection = read(answers, member, min_mass=0.2)
    assert answers.asked[0] == [(0,)]
    assert projection.expanded[0] == b" t" and b" s" not in projection.expanded
    assert said_as(projection, b" the") == pytest.approx(0.3)
    assert said_as(projection, b" s") == pytest.approx(0.2)


def test_after_pending_bytes_real_mass_is_a_share_of_what_agrees_with_them():
    member = FewTokens("?", "?e", "re", "?o", END)
    said = {(): {"?e": 0.02, "?o": 0.001, END: 0.979}, ("?e",): {"re": 1.0}, ("?o",): {"re": 1.0}}
    answers = Answers(table_model(member, said))
    projection = read(answers, member, b"?", min_mass=0.1)
    assert answers.asked[0] == [(1,)]
    assert said_as(projection, b"o") == pytest.approx(0.001 / 0.021)


def test_within_the_pending_bytes_only_the_members_own_tokens_are_expanded():
    said = {
        (): {"the": 0.001, "th": 0.8, "there": 0.199},
        ("the",): {"re": 0.5, "s": 0.5},
        ("th",): {"e": 1.0},
        ("th", "e"): {"s": 1.0},
    }
    answers = Answers(table_model(PIECES, said))
    projection = read(answers, PIECES, b"the", own_path=(0,), max_passes=1)
    assert answers.asked == [[(0,)]]
    assert said_as(projection, b"s") == pytest.approx(0.0005 / 0.2)
    assert said_as(projection, b"re") == pytest.approx(0.1995 / 0.2)
    assert projection.truncated_mass == pytest.approx(0.8)


def test_a_way_of_several_tokens_through_the_pending_bytes_is_asked_for_step_by_step():
    said = {(): {"t": 1.0}, ("t",): {"h": 1.0}, ("t", "h"): {"e": 0.3, "s": 0.7}}
    answers = Answers(table_model(PIECES, said))
    known = {(T, H): answers.probs((T, H))}
    projection = read(answers, PIECES, b"th", known=known, own_path=(T, H))
    assert answers.asked[:2] == [[()], [(T,)]]
    assert said_as(projection, b"s") == pytest.approx(0.7)
    assert projection.truncated_mass == 0


def test_what_is_not_expanded_through_the_pending_bytes_is_reported():
    said = {(): {"there": 0.2, "the": 0.3, "th": 0.1, "t": 0.05, "s": 0.35}}
    projection = read(Answers(table_model(PIECES, said)), PIECES, b"the", max_passes=0)
    assert said_as(projection, b"re") == pytest.approx(1)
    assert projection.truncated_mass == pytest.approx((0.3 + 0.1 + 0.05) / 0.65)
    assert (projection.num_rows, projection.num_passes) == (0, 0)


def test_nothing_comes_out_where_nothing_was_expanded_through_the_pending_bytes():
    said = {(): {"the": 0.5, "s": 0.5}}
    projection = read(Answers(table_model(PIECES, said)), PIECES, b"the", max_passes=0)
    assert not projection.has_mass and not projection.probs.any()
    assert projection.truncated_mass == 1


def test_nothing_comes_out_where_no_token_agrees_with_the_pending_bytes():
    projection = read(Answers(random_model(LETTERS, 3)), LETTERS, b"?")
    assert not projection.has_mass and not projection.probs.any()
    assert projection.truncated_mass == 0


def test_a_boundary_that_is_not_known_takes_a_pass_of_its_own():
    answers = Answers(table_model(PIECES, {(): {"there": 1.0}}))
    projection = read(answers, PIECES, b"the", known={})
    assert (projection.num_rows, projection.num_passes, answers.asked) == (1, 1, [[()]])
    assert said_as(projection, b"re") == pytest.approx(1)
    nothing = read(answers, PIECES, b"the", known={}, max_passes=0)
    assert not nothing.has_mass and nothing.truncated_mass == 1 and len(answers.asked) == 1


def test_what_is_known_is_expanded_without_a_pass_and_what_is_asked_becomes_known():
    answers = Answers(random_model(PIECES, 6, seed=3))
    known = {(): answers.probs()}
    first = read(answers, PIECES, b"t", known=known, own_path=(T,), max_rows=99, max_passes=99)
    again = read(answers, PIECES, b"t", known=known, own_path=(T,), max_rows=99, max_passes=99)
    assert first.num_rows > 0 == again.num_rows
    assert set(known) == {(), *(path for wanted in answers.asked for path in wanted)}
    torch.testing.assert_close(first.probs, again.probs)


def test_paths_that_the_context_has_no_room_for_are_not_expanded():
    answers = Answers(random_model(LETTERS, 6))
    projection = read(answers, LETTERS, max_length=1, min_mass=0.0)
    assert {len(path) for wanted in answers.asked for path in wanted} == {1}
    assert float(projection.probs.sum()) == pytest.approx(1)


def test_of_an_expanded_distribution_the_best_tokens_count_and_the_others_leave_the_text():
    member = FewTokens(" t", "he", "o", "?", END)
    said = {(): {" t": 1.0}, (" t",): {"he": 0.4, "o": 0.3, "?": 0.2, END: 0.1}}
    one = read(Answers(table_model(member, said)), member, num_tokens=1, max_passes=1)
    assert said_as(one, b" the") == pytest.approx(0.4)
    assert said_as(one, b" t") == pytest.approx(0.6)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "unigram"])
@pytest.mark.parametrize("path", [(), (0,)])
def test_the_further_an_expansion_goes_the_nearer_it_comes_to_the_enumeration(kind, path):
    main = load_toy(kind)
    model = random_model(LETTERS, 5, seed=1)
    pending = b"t" if path else b""
    exact = reference.project_as_text(
        LETTERS.tokens, LETTERS.eos_ids, model, pending, lambda text: first_token(main, text), len(main)
    )
    distances = []
    for max_passes in (0, 1, 2, 4):
        known = {(): Answers(model).probs(), (0,): Answers(model).probs((0,))}
        limits = {"max_passes": max_passes, "max_rows": 10**6, "min_mass": 0.0}
        projection = read(Answers(model), LETTERS, pending, kind, known=known, own_path=path, **limits)
        distances.append(float((projection.probs - torch.tensor(exact, dtype=torch.float64)).abs().sum()) / 2)
    for nearer, further in zip(distances[1:], distances, strict=False):
        assert nearer <= further + 1e-9
    assert distances[-1] < 0.02 and (path or distances[0] > 0.02)


def test_only_texts_that_the_main_model_expects_to_go_on_are_expanded():
    main = load_toy("gpt2")
    member = FewTokens(" t", " d", "he", "og", END)
    said = {(): {" t": 0.5, " d": 0.5}, (" t",): {"he": 1.0}, (" d",): {"og": 1.0}}
    expected = torch.zeros(len(main), dtype=torch.float64)
    expected[first_token(main, b" the")] = 1.0
    answers = Answers(table_model(member, said))
    projector = Projector(member, main, limits_of())

    projection = answers.drive(projector.expand(b"", {(): answers.probs()}, expected=expected))

    assert projection.expanded == [b" t"]
    assert said_as(projection, b" the") == pytest.approx(0.5)
    assert said_as(projection, b" d") == pytest.approx(0.5)


def test_texts_that_the_main_tokenizer_would_have_cut_otherwise_are_dropped():
    main = load_toy("gpt2")
    tail = (first_token(main, b" t"),)
    assert main.tokens[tail[0]] == b" t"
    member = FewTokens(" the", " t", " t?", END)
    answers = Answers(table_model(member, {(): {" the": 0.9, " t?": 0.1}}))
    projector = Projector(member, main, limits_of())

    projection = answers.drive(projector.expand(b" t", {(): answers.probs()}, tail=tail))
    plain = answers.drive(projector.expand(b" t", {(): answers.probs()}))

    assert said_as(projection, b"?") == pytest.approx(1)
    assert said_as(plain, b"?") == pytest.approx(0.1)


def test_a_member_with_bytes_alone_gives_its_residual_where_a_character_is_not_expanded():
    snowman = "☃".encode()
    member = FewTokens(snowman[:1], snowman[1:], "a", END)
    main = load_toy("llama without bytes")
    answers = Answers(lambda path: [0.6, 0.0, 0.4, 0.0])
    projection = answers.drive(Projector(member, main, limits_of(max_passes=0)).expand(b"", {(): answers.probs()}))
    assert projection.residual is not None
    assert projection.residual.tolist() == pytest.approx([0.6, 0.0, 0.0, 0.0])
    assert said_as(projection, b"a", "llama without bytes") == pytest.approx(0.4)
