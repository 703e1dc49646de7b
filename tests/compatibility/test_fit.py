from __future__ import annotations

import pytest

from deepen_llm.compatibility.agreement import Agreement
from deepen_llm.compatibility.fit import (
    ALIKE_SHARE,
    MOSTLY_ALIKE_SHARE,
    MUCH_LONGER,
    Fit,
    MemberFit,
    PairFit,
    count_common,
    judge_fit,
    measure_member,
)
from deepen_llm.compatibility.sample import SAMPLE
from deepen_llm.starter import model_paths
from deepen_llm.vocabulary import Vocabulary, common_tokens
from tests import toy_tokenizers as toys
from tests.vocabularies import load_real, load_toy

WORDS = {"words": "the world the world"}


@pytest.fixture(scope="module")
def letters():
    """A tokenizer that spells byte by byte."""
    return Vocabulary.from_tokenizer(toys.byte_level_bpe(size=256), name="letters")


def member(name, bytes_per_token=2.0, missing=""):
    return MemberFit(name, bytes_per_token, missing, len(missing) / 100)


def pair(first, second, share):
    return PairFit(first, second, None if share is None else Agreement(1000, 1000, int(1000 * share)))


@pytest.mark.parametrize(
    ("share", "cuts"),
    [
        (1.0, "alike"),
        (ALIKE_SHARE, "alike"),
        (ALIKE_SHARE - 0.001, "mostly alike"),
        (MOSTLY_ALIKE_SHARE, "mostly alike"),
        (MOSTLY_ALIKE_SHARE - 0.001, "differently"),
        (0.0, "differently"),
        (None, "unknown"),
    ],
)
def test_the_least_share_says_how_alike_two_members_cut(share, cuts):
    assert pair("a", "b", share).cuts == cuts


def test_one_way_agreement_is_not_enough_to_cut_alike():
    assert PairFit("pieces", "letters", Agreement(500, 1000, 500)).cuts == "differently"


def test_the_present_main_model_stays_where_no_other_has_much_longer_tokens():
    longer = 2.0 * MUCH_LONGER
    assert Fit((member("a"), member("b", longer)), (), "a").best_main.name == "a"
    assert Fit((member("a"), member("b", longer + 0.01)), (), "a").best_main.name == "b"
    assert Fit((member("a", longer + 0.01), member("b")), (), "a").best_main.name == "a"


def test_a_member_that_cannot_express_the_sample_is_no_main_model_however_long_its_tokens():
    fit = Fit((member("a", 9.0, missing="\n"), member("b", 1.0), member("c", 1.05)), (), "a")
    assert fit.best_main.name == "c"


def test_where_all_miss_something_the_one_that_misses_least_is_main():
    assert Fit((member("a", missing="xyz"), member("b", missing="x")), (), "a").best_main.name == "b"


def test_text_is_read_where_a_member_does_not_cut_as_the_main_model_does():
    members = (member("a"), member("b"), member("c"))
    alike = (pair("a", "b", 1.0), pair("a", "c", 0.96))
    assert not Fit(members, (*alike, pair("b", "c", 0.5)), "a").needs_text
    assert Fit(members, (*alike, pair("b", "c", 0.5)), "b").needs_text
    assert Fit(members, (pair("a", "b", 1.0), pair("a", "c", None)), "a").needs_text
    assert not Fit(members[:1], (), "a").needs_text


def test_bytes_a_token_and_shares_are_those_of_the_tokens(letters):
    coarse = load_toy("tiktoken")
    fit = judge_fit([("tiktoken", coarse), ("letters", letters)], "letters", WORDS)
    assert [m.name for m in fit.members] == ["tiktoken", "letters"]
    num_bytes, num_tokens = len(WORDS["words"]), len(coarse.encode(WORDS["words"]))
    assert fit.members[0].bytes_per_token == num_bytes / num_tokens
    assert fit.members[1].bytes_per_token == 1.0
    (only,) = fit.pairs
    assert only.agreement == Agreement(num_tokens - 1, num_bytes - 1, num_tokens - 1)
    assert only.cuts == "differently"
    assert fit.best_main.name == "tiktoken"
    assert fit.needs_text


def test_a_model_that_is_there_twice_goes_by_its_two_names(letters):
    fit = judge_fit([("model", letters), ("model#2", letters)], "model#2", WORDS)
    assert [m.name for m in fit.members] == ["model", "model#2"]
    assert (fit.pairs[0].first, fit.pairs[0].second, fit.pairs[0].cuts) == ("model", "model#2", "alike")
    assert fit.best_main.name == "model#2"


def test_characters_that_cannot_be_expressed_are_counted_the_most_frequent_first():
    measured = measure_member("bare", load_toy("llama without bytes"), ["the 🙂", "dog ∑🙂 a"])
    assert measured.missing == "🙂∑"
    assert measured.missing_share == 3 / 13


def test_two_members_without_a_line_in_common_are_not_compared(letters):
    fit = judge_fit([("letters", letters), ("bare", load_toy("llama without bytes"))], "letters", {"signs": "∑ ∏\n∂"})
    assert fit.pairs[0].agreement is None
    assert fit.best_main.name == "letters"


def test_the_starter_models_cut_the_sample_alike_or_mostly_alike():
    from transformers import AutoTokenizer

    names = [path.name for path in model_paths()]
    vocabularies = [Vocabulary.from_tokenizer(AutoTokenizer.from_pretrained(p), name=p.name) for p in model_paths()]
    fit = judge_fit(list(zip(names, vocabularies, strict=True)), names[0], SAMPLE)
    assert {(p.first, p.second): p.cuts for p in fit.pairs} == {
        ("llama", "neox"): "mostly alike",
        ("llama", "qwen2"): "alike",
        ("neox", "qwen2"): "mostly alike",
    }
    assert fit.best_main.name == names[0]
    assert not any(m.missing for m in fit.members)


def test_real_models_that_spell_differently_are_told_from_those_that_do_not():
    pieces, letters, characters = map(load_real, ("stories260K", "babyllama-tok361", "babyllama-tok105"))
    members = [(vocabulary.name, vocabulary) for vocabulary in (characters, letters, pieces)]
    fit = judge_fit(members, characters.name, SAMPLE)
    assert [p.cuts for p in fit.pairs] == ["alike", "differently", "differently"]
    assert fit.best_main.name == "stories260K"
    assert fit.needs_text
    assert fit.member(characters.name).missing[0] == "\n"
    assert fit.member(characters.name).missing_share > 0.02


def test_common_tokens_are_counted_for_every_two_members_then_for_all(letters):
    members = [("letters", letters), ("coarse", load_toy("tiktoken")), ("again", letters)]
    found = count_common(members)
    assert [common.names for common in found] == [
        ("letters", "coarse"),
        ("letters", "again"),
        ("coarse", "again"),
        ("letters", "coarse", "again"),
    ]
    assert found[0].number == len(common_tokens([letters, members[1][1]]))
    assert found[1].share == 1.0
    assert len(count_common(members[:2])) == 1 and not count_common(members[:1])
