"""The mixture over words, held against an enumeration of texts under members that are tables."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from deepen_llm.decoding.open_word import ROUNDING, OpenWord, Said
from deepen_llm.vocabulary.words import Place, split_words
from deepen_llm.weighting.adaptive import AdaptiveWeighting
from deepen_llm.weighting.base import FixedWeights

END = ""
TOKENS = ("a", "b", " ", END)
TEXTS = ["".join(letters) for length in range(5) for letters in itertools.product("ab ", repeat=length)]
WEIGHTS = {
    "fixed": FixedWeights((0.5, 0.3, 0.2)),
    "one without weight": FixedWeights((0.6, 0.0, 0.4)),
    "adaptive": AdaptiveWeighting((0.5, 0.3, 0.2)).begin(),
    "adaptive, fast, only together": AdaptiveWeighting((0.2, 0.4, 0.4), eta=0.8, alone=0.0).begin(),
}
EXACT = 1e-9
UNKNOWN = (math.nan,) * 3


class Table:
    """A member that gives the next token after every text by chance."""

    def __init__(self, seed):
        self.seed = seed

    def next(self, text):
        rng = random.Random(f"{self.seed} {text}")
        masses = [rng.uniform(0.01, 1) ** 3 for _ in TOKENS]
        return {token: mass / sum(masses) for token, mass in zip(TOKENS, masses, strict=True)}

    def end_word(self, text):
        """The probability that a text's last word ends there: what is no letter is a word by itself."""
        return self.next(text)[" "] + self.next(text)[END] if text[-1:] in ("a", "b") else 1.0

    def give(self, word, before):
        """The probability of a word's letters, where a word begins."""
        found = 1 / self.end_word(before)
        for token in word or [END]:
            found *= self.next(before)[token]
            before += token
        return found


MEMBERS = [Table(seed) for seed in range(3)]


def mix(weights, text, *, is_ended):
    """The product, over the words, of what the mixture gives them; the last one is open unless the text is ended."""
    words = [text[left:right] for left, right in itertools.pairwise([0, *split_words(text)])]
    before, found = "", 1.0
    for place, word in enumerate([*words, END] if is_ended else words):
        given = [member.give(word, before) for member in MEMBERS]
        before += word
        if word != END and (is_ended or place < len(words) - 1):
            given = [g * member.end_word(before) for g, member in zip(given, MEMBERS, strict=True)]
        found *= sum(w * g for w, g in zip(weights.current, given, strict=True))
        weights = weights.after_word(given)
    return found


def begins_word(token, word):
    return token in (END, " ") or word.place == Place.BETWEEN


def fuse(word, given):
    """The fused distribution of what the members give the next token: `given` has one {token: probability} each."""
    begins = [sum(p for token, p in one.items() if begins_word(token, word)) for one in given]
    factors = word.weigh([1.0] * len(given) if word.place == Place.BETWEEN else begins)
    return {
        token: sum(
            factor * one[token]
            for factor, one in zip(factors.begins if begins_word(token, word) else factors.goes_on, given, strict=True)
        )
        for token in TOKENS
    }


def chain(weights, text, *, is_ended):
    """The ensemble's probability of a text, token by token; every step has to give a distribution."""
    word, before, found = OpenWord(weights, ""), "", 1.0
    for token in [*text, END] if is_ended else text:
        given = [member.next(before) for member in MEMBERS]
        fused = fuse(word, given)
        assert min(fused.values()) >= 0 and sum(fused.values()) == pytest.approx(1, abs=EXACT)
        found *= fused[token]
        if token != END:
            word.take(token.encode(), [one[token] for one in given], UNKNOWN)
        before += token
    return found


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("is_ended", [False, True])
def test_tokens_chained_come_to_what_the_mixture_over_words_gives_the_text(weights, is_ended):
    for text in TEXTS:
        expected = mix(weights, text, is_ended=is_ended)
        assert chain(weights, text, is_ended=is_ended) == pytest.approx(expected, abs=EXACT, rel=EXACT)


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
def test_texts_that_ended_and_those_that_go_on_sum_to_one(weights):
    longest = max(map(len, TEXTS))
    ended = sum(chain(weights, text, is_ended=True) for text in TEXTS if len(text) < longest)
    open_still = sum(chain(weights, text, is_ended=False) for text in TEXTS if len(text) == longest)
    assert ended + open_still == pytest.approx(1, abs=EXACT)


def test_all_weight_on_one_member_is_that_member():
    weights = FixedWeights((0.0, 1.0, 0.0))
    for text in TEXTS:
        expected = math.prod(MEMBERS[1].next(text[:at])[text[at]] for at in range(len(text)))
        assert chain(weights, text, is_ended=False) == pytest.approx(expected, abs=EXACT, rel=EXACT)


def goes_on_as(word):
    """By how much each member counts where the word goes on."""
    return word.weigh([0.5] * 2).goes_on


def test_a_member_that_gave_the_open_bytes_nothing_says_nothing_until_the_word_ends():
    word = OpenWord(FixedWeights((0.5, 0.5)), "")
    word.weigh([1.0, 1.0])
    word.take(b"a", (0.4, 0.0), UNKNOWN[:2])
    for letter in (b"b", b"a"):
        given = [{"a": 0.1, "b": 0.2, " ": 0.3, END: 0.4}, {"a": 0.7, "b": 0.1, " ": 0.1, END: 0.1}]
        fused = fuse(word, given)
        assert [fused[token] for token in "ab"] == pytest.approx([0.1, 0.2])
        # Whether the word ends is the other's to say as well; what comes then is said by both.
        assert fused[" "] == pytest.approx(0.7 * (0.5 * 0.3 / 0.7 + 0.5 * 0.5))
        word.take(letter, [one[letter.decode()] for one in given], UNKNOWN[:2])
    word.weigh([0.7, 0.2])
    word.take(b" ", (0.3, 0.1), UNKNOWN[:2])
    assert word.weights.current == (0.5, 0.5)
    assert word.weigh([1.0, 1.0]).begins == pytest.approx((0.5, 0.5))


@pytest.mark.parametrize("given", [(0.0, 0.0), (0.0, 0.0, 0.3)])
def test_of_a_word_that_nobody_with_weight_gave_anything_nothing_is_known(given):
    weights = (0.7, 0.3, 0.0)[: len(given)]
    word = OpenWord(FixedWeights(weights), "")
    word.weigh([1.0] * len(given))
    word.take(b"a", given, UNKNOWN[: len(given)])
    factors = word.weigh([0.5] * len(given))
    assert factors.goes_on == pytest.approx(weights) and factors.begins == pytest.approx(weights)


@pytest.mark.parametrize(("begins", "expected"), [((0.0, 0.5), (0.0, 0.5)), ((0.0, 0.0), (0.0, 0.0))])
def test_a_member_that_cannot_end_the_word_says_nothing_of_what_comes_then(begins, expected):
    word = OpenWord(FixedWeights((0.5, 0.5)), "a")
    factors = word.weigh(begins)
    assert tuple(map(float.__mul__, factors.begins, begins)) == pytest.approx(tuple(e * 0.5 for e in expected))
    assert factors.goes_on == (0.5, 0.5)


def test_of_the_word_at_the_end_of_a_prompt_nothing_is_known():
    word = OpenWord(FixedWeights((0.8, 0.2)), "The qu")
    assert word.place == Place.IN_WORD
    assert goes_on_as(word) == pytest.approx((0.8, 0.2))


def test_of_a_word_with_a_skipped_token_nothing_is_known_until_the_next_begins():
    word = OpenWord(WEIGHTS["adaptive"], "")
    word.weigh([1.0] * 3)
    word.take(b"a", (0.9, 0.1, 0.1), (0.9, 0.1, 0.05))
    assert word.own_shares == (1.0, 1.0, 0.5)
    word.skip(b"b")
    assert word.place == Place.IN_WORD and word.own_shares == (1.0,) * 3
    assert word.weigh([0.5] * 3).goes_on == pytest.approx(word.weights.current)
    word.skip(b" ")
    assert word.place == Place.BETWEEN
    assert word.weights.current == pytest.approx(WEIGHTS["adaptive"].current, abs=EXACT)


def test_weights_learn_from_a_word_when_the_next_one_begins():
    start = WEIGHTS["adaptive"]
    word = OpenWord(start, "")
    word.weigh([1.0] * 3)
    word.take(b"a", (0.6, 0.2, 0.1), UNKNOWN)
    assert word.weights.current == pytest.approx(start.current, abs=EXACT)
    word.weigh([0.5, 0.9, 0.3])
    word.take(b" ", (0.4, 0.4, 0.2), UNKNOWN)
    expected = start.after_word((0.6 * 0.5, 0.2 * 0.9, 0.1 * 0.3))
    assert word.weights.current == pytest.approx(expected.current, abs=EXACT)


def test_what_a_projection_borrowed_goes_on_as_the_main_model_does():
    """A member has two ways to have said the word so far, each with its probability: its own, and what it borrowed."""
    rng = random.Random(7)
    for _ in range(50):
        word = OpenWord(FixedWeights((0.4, 0.6)), "")
        word.weigh([1.0, 1.0])
        own, borrowed, main = (rng.uniform(0.001, 0.4) for _ in range(3))
        word.take(b"a", (main, own + borrowed), (math.nan, own))
        for _ in range(4):
            share = word.own_shares[1]
            if borrowed / (own + borrowed) < 2 * ROUNDING:
                break
            assert word.own_shares[0] == 1.0
            assert share == pytest.approx(own / (own + borrowed), abs=EXACT)
            tables = [Table(rng.random()).next("") for _ in range(2)]
            completed = {token: share * tables[1][token] + (1 - share) * tables[0][token] for token in TOKENS}
            fused = fuse(word, [tables[0], completed])
            for token in "ab":
                joint = own * tables[1][token] + borrowed * tables[0][token]
                expected = (0.4 * main * tables[0][token] + 0.6 * joint) / (0.4 * main + 0.6 * (own + borrowed))
                assert fused[token] == pytest.approx(expected, abs=EXACT)
            token = rng.choice("ab")
            word.take(token.encode(), (tables[0][token], completed[token]), (math.nan, tables[1][token]))
            own, borrowed, main = own * tables[1][token], borrowed * tables[0][token], main * tables[0][token]


def test_what_rounding_leaves_of_a_share_is_not_borrowed():
    """Or a main model that is sure of a token would have said it for a member that nearly rules it out."""
    word = OpenWord(FixedWeights((0.5, 0.5)), "")
    word.weigh([1.0, 1.0])
    word.take(b"a", (0.4, 0.4), (math.nan, 0.4 * (1 - 3e-7)))
    assert word.own_shares == (1.0, 1.0)
    word.take(b"b", (0.4, 0.4), (math.nan, 0.4 * (1 - 3e-3)))
    assert word.own_shares[1] == pytest.approx(1 - 3e-3)


def test_a_share_that_is_not_known_stays_as_it_was_and_a_new_word_has_its_own():
    word = OpenWord(FixedWeights((0.5, 0.5)), "")
    word.weigh([1.0, 1.0])
    word.take(b"a", (0.4, 0.4), (math.nan, 0.1))
    word.take(b"b", (0.4, 0.4), (math.nan, math.nan))
    assert word.own_shares == pytest.approx((1.0, 0.25))
    word.weigh([0.5, 0.5])
    word.take(b" ", (0.4, 0.4), (math.nan, math.nan))
    assert word.own_shares == (1.0, 1.0)


@pytest.mark.parametrize("weights", [WEIGHTS["fixed"], WEIGHTS["adaptive"]], ids=["fixed", "adaptive"])
def test_what_is_told_again_comes_to_the_same_and_a_copy_goes_its_own_way(weights):
    word, before = OpenWord(weights, ""), ""
    copied, told = word.copy(), []
    for token in "ab a":
        given = [member.next(before) for member in MEMBERS]
        fuse(word, given)
        probs = [one[token] for one in given]
        told.append(Said(token.encode(), probs, [p / 2 for p in probs], word.begins))
        word.take(told[-1].token, told[-1].given, told[-1].own)
        before += token
    assert copied.place == Place.BETWEEN and copied.weights is weights
    for said in told:
        copied.retell(said)
    assert copied.weights.current == word.weights.current and copied.own_shares == word.own_shares
    given = [member.next(before) for member in MEMBERS]
    assert fuse(copied, given) == fuse(word, given)


def test_a_member_that_was_not_asked_has_no_say_and_its_silence_speaks_neither_way():
    word = OpenWord(FixedWeights((0.5, 0.3, 0.2)), "")
    factors = word.weigh([1.0, 1.0, math.nan])
    assert factors.begins == pytest.approx((0.625, 0.375, 0.0)) and factors.goes_on[2] == 0.0
    word.take(b"a", (0.4, 0.8, math.nan), UNKNOWN)
    given = (0.4, 0.8, (0.5 * 0.4 + 0.3 * 0.8) / 0.8)
    shares = [w * g for w, g in zip((0.5, 0.3, 0.2), given, strict=True)]
    assert word.weigh([0.5] * 3).goes_on == pytest.approx([share / sum(shares) for share in shares])
