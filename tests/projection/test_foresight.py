"""Expansions in fewer passes: what they come to is what they come to level by level."""

from __future__ import annotations

import pytest
import torch

from deepen_llm.projection import ExpansionLimits, Projector
from deepen_llm.projection.expansion import Expansion
from deepen_llm.projection.foresight import Foresight, Later, Outlook
from tests.projection.toys import END, Answers, FewTokens, first_token, random_model, table_model
from tests.vocabularies import load_toy

LETTERS = FewTokens(" ", "t", "h", "e", "r", "s", "a", "n", "d", END)
LIMITS = ExpansionLimits(min_mass=0.01, max_rows=4, max_passes=6)
WORD = {
    (): {" ": 1.0},
    (" ",): {"t": 0.9, "a": 0.1},
    (" ", "t"): {"h": 1.0},
    (" ", "t", "h"): {"e": 1.0},
    (" ", "a"): {"n": 1.0},
    (" ", "a", "n"): {"d": 1.0},
}


def expect(main, **probs):
    """The main model's probs of some tokens, by their words, each after a space."""
    expected = torch.zeros(len(main), dtype=torch.float64)
    for word, prob in probs.items():
        expected[first_token(main, b" " + word.encode())] = prob
    return expected


def level_by_level(projector, answers, expected, pending=b"", known=None, **options):
    """The same without foresight."""
    queries = Expansion(
        projector._tables,
        projector.limits,
        pending,
        {(): answers.probs()} if known is None else known,
        options.get("max_length", 99),
        options.get("own_path", ()),
        options.get("tail", ()),
        expected,
    ).run()
    return answers.drive(queries)


def test_all_beginnings_of_the_main_models_likely_tokens_are_asked_for_in_one_pass():
    main = load_toy("gpt2")
    answers = Answers(table_model(LETTERS, WORD))
    projector = Projector(LETTERS, main, LIMITS)
    expected = expect(main, the=0.8, **{"and": 0.2})

    projection = answers.drive(projector.expand(b"", {(): answers.probs()}, expected=expected))

    texts = [["".join(LETTERS.pieces[token_id] for token_id in path) for path in wanted] for wanted in answers.asked]
    assert texts == [[" ", " t", " th", " a", " an"]]
    assert (projection.num_passes, projection.num_rows) == (1, 5)
    assert projection.probs[first_token(main, b" the")].item() == pytest.approx(0.9)
    assert projection.probs[first_token(main, b" and")].item() == pytest.approx(0.1)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("kind", ["gpt2", "llama", "unigram"])
@pytest.mark.parametrize("path", [(), (0,), (0, 1)])
def test_what_comes_out_is_what_comes_out_level_by_level(kind, path, seed):
    main = load_toy(kind)
    model, pending = random_model(LETTERS, 6, seed=seed), b"".join(LETTERS.tokens[token_id] for token_id in path)
    likely = torch.rand(len(main), generator=torch.Generator().manual_seed(seed), dtype=torch.float64) ** 8
    expected = likely / likely.sum()
    projector = Projector(LETTERS, main, LIMITS)
    slow, fast = Answers(model), Answers(model)
    slow_known, fast_known = ({path[:at]: slow.probs(path[:at]) for at in range(len(path) + 1)} for _ in range(2))

    by_levels = level_by_level(projector, slow, expected, pending, slow_known, own_path=path)
    foreseen = fast.drive(projector.expand(pending, fast_known, 99, own_path=path, expected=expected))

    assert torch.equal(by_levels.probs, foreseen.probs)
    assert by_levels.expanded == foreseen.expanded
    assert (by_levels.mass, by_levels.truncated_mass) == (foreseen.mass, foreseen.truncated_mass)
    assert slow_known.keys() == fast_known.keys()
    assert len(fast.asked) == foreseen.num_passes <= by_levels.num_passes == len(slow.asked)
    assert sum(map(len, fast.asked)) == foreseen.num_rows


def test_what_is_foreseen_stays_within_the_limits():
    main, expected = load_toy("gpt2"), expect(load_toy("gpt2"), the=1.0)
    for changes, asked in (
        ({"max_rows": 1}, [[" ", " t", " th"]]),
        ({"max_passes": 2}, [[" ", " t"]]),
        ({"max_passes": 1}, [[" "]]),
    ):
        limits = ExpansionLimits(**{"min_mass": 0.01, "max_rows": 4, "max_passes": 6, **changes})
        answers = Answers(table_model(LETTERS, WORD))
        answers.drive(Projector(LETTERS, main, limits).expand(b"", {(): answers.probs()}, expected=expected))
        assert [["".join(LETTERS.pieces[at] for at in path) for path in wanted] for wanted in answers.asked] == asked


def test_no_path_is_foreseen_that_the_context_has_no_room_for():
    main, answers = load_toy("gpt2"), Answers(table_model(LETTERS, WORD))
    expected = expect(main, the=1.0)
    answers.drive(Projector(LETTERS, main, LIMITS).expand(b"", {(): answers.probs()}, 2, expected=expected))
    assert answers.asked == [[(0,), (0, 1)]]


def test_what_was_not_foreseen_is_asked_for_in_its_turn():
    main = load_toy("gpt2")
    said = {(): {" ": 1.0}, (" ",): {"t": 1.0}, (" ", "t"): {"h": 1.0}, (" ", "t", "h"): {"e": 1.0}}
    answers = Answers(table_model(LETTERS, said))
    projector = Projector(LETTERS, main, LIMITS)
    expected = expect(main, the=1.0)
    foresight = Foresight(projector._tables, LIMITS, b"", torch.zeros_like(expected))
    known = {(): answers.probs()}
    queries = Expansion(projector._tables, LIMITS, b"", known, 99, (), (), expected).run()
    projection = answers.drive(foresight.run(queries))
    assert answers.asked == [[(0,)], [(0, 1)], [(0, 1, 2)]]
    assert projection.probs[first_token(main, b" the")].item() == pytest.approx(1.0)


def test_a_main_model_that_expects_nothing_is_told_what_comes_level_by_level():
    main, answers = load_toy("gpt2"), Answers(random_model(LETTERS, 6))
    projection = answers.drive(Projector(LETTERS, main, LIMITS).expand(b"", {(): answers.probs()}))
    assert projection.num_passes == len(answers.asked) > 1
    assert {len(path) for path in answers.asked[0]} == {1}


def test_tokens_of_the_main_model_without_text_are_not_spelled():
    main = load_toy("gpt2")
    tables = Projector(LETTERS, main, LIMITS)._tables
    assert tables.spell(b"", main.eos_ids[0]) == ()
    assert tables.spell(b" t", first_token(main, b"he")) == (0, 1, 2, 3)


def test_what_is_known_beyond_the_text_is_asked_for_by_nobody():
    main, answers = load_toy("gpt2"), Answers(table_model(LETTERS, WORD))
    projector = Projector(LETTERS, main, LIMITS)
    outlook = Outlook({(0,): answers.probs((0,)), (0, 1): answers.probs((0, 1))})

    def look():
        outlook.answers[0, 1, 2] = answers.probs((0, 1, 2))
        return ()

    outlook = Outlook(outlook.answers, look)
    known = {(): answers.probs()}
    expected = expect(main, the=1.0)
    projection = answers.drive(projector.expand(b"", known, expected=expected, outlook=outlook))
    assert (projection.num_passes, projection.num_rows, answers.asked) == (0, 0, [])
    assert torch.equal(projection.probs, level_by_level(projector, answers, expected).probs)


def test_places_to_come_are_asked_for_along_where_the_member_begins_what_the_main_model_expects():
    main = load_toy("gpt2")
    the, add, there = (0, 1, 2, 3), (0, 6, 8, 8), (0, 1, 2, 3, 4, 3)
    answers = Answers(table_model(LETTERS, {**WORD, (" ", "t", "h", "e"): {" ": 1.0}}))
    later = [Later(the, expect(main, add=0.6, there=0.4)), Later((*the, *add), expect(main, the=1.0))]
    outlook = Outlook({the: answers.probs(the)}, lambda: later)
    foresight = Foresight(Projector(LETTERS, main, LIMITS)._tables, LIMITS, b"", expect(main, the=1.0), outlook=outlook)
    ways = [(*the, *word[:end]) for word in (add, there) for end in range(1, len(word))]
    asked = foresight._foresee([(0,)])
    assert asked[:2] == [(0, 1), (0, 1, 2)]
    assert set(asked[2:]) == set(ways)


def test_of_a_place_to_come_only_what_the_member_begins_is_asked_for():
    main = load_toy("gpt2")
    answers = Answers(table_model(LETTERS, {("t",): {"h": 1.0}}))
    tables = Projector(LETTERS, main, LIMITS)._tables
    outlook = Outlook({(1,): answers.probs((1,))}, lambda: [Later((1,), expect(main, the=1.0))])
    assert Foresight(tables, LIMITS, b"", expect(main), outlook=outlook)._foresee([]) == []
