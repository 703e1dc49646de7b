from __future__ import annotations

import math
from pathlib import Path

import pytest

from deepen_llm import Ensemble
from deepen_llm.errors import ConfigError, VocabularyError
from deepen_llm.evaluation.context_window import Passage
from deepen_llm.evaluation.own_text import (
    EQUAL_SHARE,
    FAR_SHARE,
    PASSAGE_CHARACTERS,
    MemberOnText,
    OwnText,
    TextComparison,
    compare_on_text,
)
from deepen_llm.evaluation.request_cache import RequestCache
from deepen_llm.evaluation.runner import Runner
from deepen_llm.evaluation.scores import Scores
from deepen_llm.evaluation.tasks import TextTask
from deepen_llm.testing import ScriptedMember
from deepen_llm.vocabulary import Vocabulary
from tests import toy_tokenizers

KNOWN = "The quick brown fox jumps over the lazy dog."
STORIES = Path(__file__).parents[1] / "data" / "stories_dev.txt"


def reached(name, *bits, sizes=None):
    return MemberOnText(name, Scores(tuple(map(float, bits)), sizes or (1.0,) * len(bits), is_share=False))


def compared(*members, left_out=0.0):
    return TextComparison(members, OwnText((Passage("a", " b"),), left_out))


@pytest.fixture
def bare():
    """A member that cannot write what its tokenizer does not know."""
    tokenizer = toy_tokenizers.sentencepiece_bpe(byte_fallback=False)
    return ScriptedMember(Vocabulary.from_tokenizer(tokenizer, name="bare"), [KNOWN])


def test_who_knows_the_text_is_best_over_the_same_bytes(make_ensemble):
    ensemble = make_ensemble([], texts_of={"bpe": [KNOWN], "sentencepiece": ["Nothing of the sort."]})
    comparison = compare_on_text(ensemble, OwnText.cut(ensemble.members, [KNOWN]))
    assert [member.name for member in comparison.members] == ["bpe", "sentencepiece"]
    assert comparison.best.name == "bpe"
    assert comparison.far_weaker == ("sentencepiece",)
    assert {member.scores.sizes for member in comparison.members} == {(float(len(KNOWN) - len("The")),)}
    assert comparison.text.num_bytes == len(KNOWN) - len("The")


def test_the_figures_are_those_that_an_evaluation_gives(tmp_path):
    text = STORIES.read_text(encoding="utf-8")[:900]
    (tmp_path / "text").write_text(text, encoding="utf-8")
    with Ensemble.starter(["llama", "neox"]) as ensemble:
        comparison = compare_on_text(ensemble, OwnText.cut(ensemble.members, [text]))
        task = TextTask.load(tmp_path / "text", ensemble.members)
    for member in comparison.members:
        with Ensemble.starter([member.name]) as alone:
            scores = task.run(Runner(alone, RequestCache()))
        assert member.scores.sizes == scores.sizes
        assert member.scores.values == pytest.approx(scores.values, rel=1e-5)


def test_the_members_stay_open_and_answer_afterwards(make_ensemble):
    ensemble = make_ensemble([KNOWN])
    compare_on_text(ensemble, OwnText.cut(ensemble.members, [KNOWN]))
    assert ensemble.generate(KNOWN[:9]).text == KNOWN[9:]
    assert not any(member.rows or member.is_closed for member in ensemble.members)


def test_progress_is_told_by_member_and_batch(make_ensemble):
    ensemble = make_ensemble([KNOWN], max_batch_size=2)
    own = OwnText.cut(ensemble.members, [KNOWN] * 3)
    told = []
    compare_on_text(ensemble, own, lambda *what: told.append(what))
    assert told == [(name, number) for name in ensemble.member_names for number in (0, 2, 1)]


def test_passages_are_short_enough_to_run_side_by_side(make_ensemble):
    members = make_ensemble([KNOWN], context_length=100_000).members
    own = OwnText.cut(members, [STORIES.read_text(encoding="utf-8")])
    assert len(own.passages) > 10
    assert all(len(p.beginning + p.continuation) <= PASSAGE_CHARACTERS for p in own.passages)


def test_a_long_stretch_without_a_space_is_one_passage_where_contexts_allow_it(make_ensemble):
    members = make_ensemble([KNOWN], context_length=100_000).members
    own = OwnText.cut(members, ["the " + "x" * 3000 + " dog"])
    assert own.passages == (Passage("x" * 3000, " dog"),)


def test_a_stretch_that_no_context_holds_is_left_out_and_the_lines_around_it_are_not(make_ensemble):
    members = make_ensemble([KNOWN], context_length=64).members
    own = OwnText.cut(members, [f"the dog\n{'xq' * 3000}\nthe fox"])
    assert own.passages == (Passage("the", " dog"), Passage("the", " fox"))


def test_lines_that_one_member_cannot_write_are_compared_in_none(make_ensemble, bare):
    members = [*make_ensemble([KNOWN], ("bpe",)).members, bare]
    text = "the lazy dog\n🙂 the fox\nthe quick fox"
    own = OwnText.cut(members, [text])
    assert own.passages == (Passage("the", " lazy dog"), Passage("the", " quick fox"))
    assert own.left_out_share == pytest.approx(1 - len("the lazy dogthe quick fox") / len(text))
    assert OwnText.cut(members[:1], [text]).left_out_share == 0


def test_where_no_line_can_be_written_by_all_it_says_by_whom_not(make_ensemble, bare):
    members = [*make_ensemble([KNOWN], ("bpe",)).members, bare]
    with pytest.raises(VocabularyError, match=r"this text has none \(bare cannot write '🙂'\)"):
        OwnText.cut(members, ["🙂 the dog", "the 🙂"])


@pytest.mark.parametrize("texts", [[], [""], ["word"], [" word\n"], ["\n \n"]])
def test_less_than_two_words_cannot_be_scored(make_ensemble, texts):
    with pytest.raises(ConfigError, match="must hold two words"):
        OwnText.cut(make_ensemble([KNOWN]).members, texts)


@pytest.mark.parametrize(
    ("more", "strength"),
    [
        (0.0, "best"),
        (0.01, "about equal"),
        (EQUAL_SHARE - 0.001, "about equal"),
        (EQUAL_SHARE + 0.001, "weaker"),
        (FAR_SHARE - 0.001, "weaker"),
        (FAR_SHARE + 0.001, "far weaker"),
        (math.inf, "far weaker"),
    ],
)
def test_the_share_of_more_bits_says_how_strong_a_member_is(more, strength):
    comparison = compared(reached("a", 2.0, 2.0), reached("b", 2.0 * (1 + more), 2.0 * (1 + more)))
    assert comparison.strength(comparison.members[1]) == strength
    assert comparison.best.name == "a"


def test_members_that_are_equally_good_or_equally_bad_are_both_best():
    for bits in (1.5, 0.0, math.inf):
        comparison = compared(reached("a", bits), reached("b", bits))
        assert [comparison.more_bits(member) for member in comparison.members] == [0.0, 0.0]


def test_a_difference_is_sure_where_passage_by_passage_it_is_always_there():
    best = reached("a", *[1.0] * 12)
    sure, doubtful = reached("b", *[1.2, 1.3] * 6), reached("c", *[4.0, *[0.9] * 11])
    comparison = compared(best, sure, doubtful)
    assert comparison.is_sure(sure)
    assert not comparison.is_sure(doubtful)
    assert not compared(reached("a", 1.0), reached("b", 5.0)).is_sure(reached("b", 5.0)), "one passage tells little"
