"""Weights that learn: what the module promises of their loss, on sequences that are as bad as we can make them."""

from __future__ import annotations

import functools
import math
import random
from types import SimpleNamespace

import pytest

from deepen_llm import EnsembleConfig, SamplingParams
from deepen_llm.config import WeightingConfig
from deepen_llm.errors import ConfigError
from deepen_llm.weighting.adaptive import AdaptiveWeighting, weigh_by_size
from deepen_llm.weighting.base import PROMPT_CREDIT, GivenWord

DENORMAL = 1e-320
LENGTH = 240
ROUNDING = 1e-9


def one_hot(place, num, low=0.0):
    return [1.0 if at == place else low for at in range(num)]


def alternating(step, num, rng):
    return one_hot(step % num, num)


def in_stretches(step, num, rng):
    return one_hot(step // 30 % num, num, 1e-4)


def once_zero_then_one(step, num, rng):
    """The first member knows nothing for most of the text, and then it alone knows all."""
    return one_hot(0, num, DENORMAL) if step > LENGTH * 2 // 3 else one_hot(1 % num, num, 1e-3)


def random_ones(step, num, rng):
    return one_hot(rng.randrange(num), num, 1e-6)


def spread(step, num, rng):
    return [rng.random() ** 12 for _ in range(num)]


def any_size(step, num, rng):
    return [10.0 ** -rng.choice([0, 1, 3, 40, 200, 308]) for _ in range(num)]


def denormals(step, num, rng):
    return [rng.choice([DENORMAL, 5e-324, 3e-310, 0.0]) for _ in range(num)]


def zeros_at_times(step, num, rng):
    return [0.0] * num if rng.random() < 0.3 else [rng.choice([0.0, rng.random()]) for _ in range(num)]


def same_for_all(step, num, rng):
    return [rng.random()] * num


def mixtures(step, num, rng):
    """Each member knows a part of what comes, and now and then all are wrong."""
    return [rng.choice([0.9, 0.5, 0.05]) for _ in range(num)] if step % 9 else [1e-9] * num


TEXTS = [
    alternating,
    in_stretches,
    once_zero_then_one,
    random_ones,
    spread,
    any_size,
    denormals,
    zeros_at_times,
    same_for_all,
    mixtures,
]


def make_text(make, num, seed=0, length=LENGTH):
    rng = random.Random(seed)
    return [make(step, num, rng) for step in range(length)]


def make_prior(num, rng):
    """Any distribution; now and then some are left out."""
    shares = [rng.choice([0.0, 1.0, rng.random(), rng.random() ** 9]) for _ in range(num)]
    shares[rng.randrange(num)] += 0.1
    return tuple(share / sum(shares) for share in shares)


def loss_of(weights, given):
    """-ln of what the mixture gives a word, exact for denormal probabilities as well; infinite where it is nothing."""
    most = max((g for w, g in zip(weights, given, strict=True) if w > 0), default=0.0)
    if most == 0:
        return math.inf
    mixed = sum(w * (g / most) for w, g in zip(weights, given, strict=True) if w > 0)
    return -math.log(most) - math.log(mixed)


def is_possible(weights, given):
    return math.isfinite(loss_of(weights, given))


def soft_bayes(prior, eta, words):
    """Its loss, literally as the module writes it."""
    mixture, loss = list(prior), 0.0
    for given in words:
        loss += loss_of(mixture, given)
        most = max(g for w, g in zip(mixture, given, strict=True) if w > 0)
        mixed = sum(w * (g / most) for w, g in zip(mixture, given, strict=True) if w > 0)
        mixture = [
            w * (1 - eta + eta * (g / most) / mixed) if w > 0 else 0.0 for w, g in zip(mixture, given, strict=True)
        ]
    return loss


def run(prior, eta, alone, words):
    """The loss, and the weights after the last word; on the way they must be a distribution."""
    weights, loss = AdaptiveWeighting(prior, eta, alone).begin(), 0.0
    for given in words:
        current = weights.current
        assert math.isclose(sum(current), 1.0, abs_tol=1e-12) and all(0.0 <= w <= 1.0 + 1e-12 for w in current)
        assert all((w == 0.0) == (p == 0.0) for w, p in zip(current, prior, strict=True))
        loss += loss_of(current, given)
        weights = weights.after_word(given)
    return loss, weights


def of_member(words, member):
    return sum(-math.log(given[member]) if given[member] > 0 else math.inf for given in words)


@functools.cache
def best_mixture(words, num):
    """The least loss of any fixed mixture, by expectation maximisation, which comes to it from above."""
    share = [1 / num] * num
    scaled = [[g / max(given) for g in given] for given in words]
    for _ in range(200):
        mixed = [sum(s * g for s, g in zip(share, given, strict=True)) for given in scaled]
        share = [
            sum(share[at] * given[at] / m for given, m in zip(scaled, mixed, strict=True)) / len(words)
            for at in range(num)
        ]
    return sum(loss_of(share, given) for given in words)


@pytest.mark.parametrize("num", range(1, 7))
@pytest.mark.parametrize("make", TEXTS)
def test_the_loss_is_within_what_is_promised_of_every_member_and_of_soft_bayes(make, num):
    rng = random.Random(num)
    for seed, eta in enumerate((0.0, 0.01, 0.1, 0.5, 0.9)):
        alone = (0.0, 0.1, 0.4, 0.9, 0.4)[seed]
        prior = (1 / num,) * num if seed == 2 else make_prior(num, rng)
        words = [given for given in make_text(make, num, seed) if is_possible(prior, given)]
        loss, _ = run(prior, eta, alone, words)
        slower = soft_bayes(prior, eta, words)
        slack = ROUNDING * max(1.0, abs(loss))
        assert loss <= slower + math.log(1 / (1 - alone)) + slack
        for member in (at for at in range(num) if prior[at] > 0):
            own = of_member(words, member)
            if alone:
                assert loss <= own + math.log(1 / (alone * prior[member])) + slack
            if eta:
                assert slower <= own + math.log(1 / prior[member]) / eta + slack


@pytest.mark.parametrize("num", [1, 2, 4])
@pytest.mark.parametrize("make", TEXTS)
def test_the_bound_against_each_member_holds_at_the_fastest_rate_too(make, num):
    prior = (1 / num,) * num
    words = [given for given in make_text(make, num) if is_possible(prior, given)]
    loss, _ = run(prior, 1.0, 0.4, words)
    for member in range(num):
        assert loss <= of_member(words, member) + math.log(num / 0.4) + ROUNDING * max(1.0, abs(loss))


@pytest.mark.parametrize("length", [1, 2, 7, 40, 120])
@pytest.mark.parametrize("eta", [0.02, 0.1, 0.3, 0.5])
@pytest.mark.parametrize("num", [2, 3])
def test_soft_bayes_is_near_the_best_mixture_in_hindsight(num, eta, length):
    for make in TEXTS:
        prior = (1 / num,) * num
        words = [given for given in make_text(make, num, seed=1, length=length) if is_possible(prior, given)]
        if not words:
            continue
        bound = math.log(num) / eta + eta * num * len(words)
        assert soft_bayes(prior, eta, words) <= best_mixture(tuple(map(tuple, words)), num) + bound
        loss, _ = run(prior, eta, 0.4, words)
        assert loss <= best_mixture(tuple(map(tuple, words)), num) + bound + math.log(1 / 0.6) + ROUNDING * abs(loss)


@pytest.mark.parametrize("num", [2, 3, 6])
@pytest.mark.parametrize("eta", [0.1, 0.5, 0.9, 0.99])
def test_near_the_fastest_rate_a_mixture_in_hindsight_may_be_better_by_more(num, eta):
    """Where the members alternate, eta N T is not enough beyond eta = 0.8; with -ln(1 - eta) for eta it is."""
    words = make_text(alternating, num)
    regret = soft_bayes((1 / num,) * num, eta, words) - best_mixture(tuple(map(tuple, words)), num)
    assert regret <= math.log(num) / eta - math.log(1 - eta) * num * len(words)
    assert (regret > math.log(num) / eta + eta * num * len(words)) == (eta == 0.99 or (eta == 0.9 and num > 2))


def test_the_weights_after_two_words_by_hand():
    weights = AdaptiveWeighting((0.25, 0.75), eta=0.5, alone=0.4).begin()
    assert weights.current == pytest.approx((0.25, 0.75))
    # m = 0.25 * 0.8 + 0.75 * 0.4 = 0.5; alone 0.1 * 0.8, 0.3 * 0.4 and the mixture 0.6 * 0.5, in all 0.5.
    weights = weights.after_word((0.8, 0.4))
    alone, share, mixture = (0.16, 0.24), 0.6, (0.25 * 1.3, 0.75 * 0.9)
    assert weights.current == pytest.approx([a + share * w for a, w in zip(alone, mixture, strict=True)])
    # m = 0.325 * 0.1 + 0.675 * 0.9 = 0.64
    total = 0.16 * 0.1 + 0.24 * 0.9 + 0.6 * 0.64
    weights = weights.after_word((0.1, 0.9))
    mixture = (0.325 * (0.5 + 0.05 / 0.64), 0.675 * (0.5 + 0.45 / 0.64))
    alone = (0.016 / total, 0.216 / total)
    share = 0.384 / total
    assert weights.current == pytest.approx([a + share * w for a, w in zip(alone, mixture, strict=True)])


def test_a_word_that_nobody_with_weight_thinks_possible_changes_nothing():
    weights = AdaptiveWeighting((0.5, 0.5, 0.0)).begin().after_word((0.3, 0.1, 0.0))
    assert weights.after_word((0.0, 0.0, 0.0)) is weights
    assert weights.after_word((0.0, 0.0, 0.9)) is weights


def test_weights_do_not_change_where_members_agree_or_the_rate_is_nothing():
    prior = (0.2, 0.5, 0.3)
    assert AdaptiveWeighting(prior).begin().after_word((0.3, 0.3, 0.3)).current == pytest.approx(prior)
    weights = AdaptiveWeighting(prior, eta=0.0, alone=0.0).begin()
    for given in make_text(any_size, 3):
        weights = weights.after_word(given)
    assert weights.current == pytest.approx(prior)


def test_each_place_has_weights_of_its_own():
    weighting = AdaptiveWeighting((0.5, 0.5))
    begun = weighting.begin()
    after = begun.after_word((0.9, 0.1))
    assert begun.current == weighting.begin().current == (0.5, 0.5)
    assert after.after_word((0.1, 0.9)).current == after.after_word((0.1, 0.9)).current != after.current


@pytest.mark.parametrize("factor", [1e-3, 1e-150, 1e-300, 1e3])
def test_a_factor_that_the_members_share_does_not_count(factor):
    one = two = AdaptiveWeighting((0.3, 0.7)).begin()
    for given in make_text(spread, 2, length=20):
        one, two = one.after_word(given), two.after_word([g * factor for g in given])
    assert one.current == pytest.approx(two.current, rel=1e-6)


def test_probabilities_next_to_nothing_count_by_their_proportion():
    weights = AdaptiveWeighting((0.4, 0.6), alone=0.4).begin()
    for _ in range(200):
        weights = weights.after_word((5e-324, 0.0))
    assert weights.current[0] > 0.999


@pytest.mark.parametrize(("eta", "alone"), [(0.1, 0.4), (0.9, 0.4), (0.5, 0.0), (1.0, 0.4)])
def test_who_was_wrong_for_a_book_comes_back(eta, alone):
    weights = AdaptiveWeighting((0.5, 0.5), eta, alone).begin()
    for _ in range(9000):
        weights = weights.after_word((1.0, 0.0))
    assert weights.current[0] > 0.99 and weights.current[1] > 0
    for _ in range(90):
        weights = weights.after_word((0.0, 1.0))
    assert weights.current[1] > 0.99
    for step in range(400 if eta < 1 else 0):
        weights = weights.after_word(one_hot(step % 2, 2))
    assert eta == 1 or min(weights.current) > 0.03  # and both count where both are needed


def test_words_of_a_prompt_teach_as_words_of_an_answer_of_which_they_count_for_a_part():
    prior, logprobs = (0.3, 0.7), [(-1.0, -3.0), (-2.0, -1.0), (-math.inf, -math.inf)]
    read = AdaptiveWeighting(prior).begin().after_prompt([GivenWord(4, given) for given in logprobs])
    told = AdaptiveWeighting(prior).begin()
    for given in ((1.0, math.exp(-2 * PROMPT_CREDIT)), (math.exp(-PROMPT_CREDIT), 1.0), (1.0, 1.0)):
        told = told.after_word(given)
    assert read.current == pytest.approx(told.current)
    assert AdaptiveWeighting.reads_prompt


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eta": 1.01}, r"eta.*less than or equal to 1; got 1\.01"),
        ({"eta": -0.1}, r"eta.*greater than or equal to 0; got -0\.1"),
        ({"eta": math.nan}, "eta.*got nan"),
        ({"alone": 1.0}, r"alone.*less than 1; got 1\.0"),
        ({"alone": -0.1}, r"alone.*greater than or equal to 0; got -0\.1"),
        ({"prior": (0.5, 0.6)}, r"the weights of prior must sum to 1; got \[0\.5, 0\.6\], which sums to 1\.1"),
        ({"prior": (1.5, -0.5)}, r"the weights of prior must be finite and not negative; got \[1\.5, -0\.5\]"),
        ({"prior": (math.nan, 1.0)}, "the weights of prior must be finite"),
        ({"prior": (0.0, 0.0)}, "the weights of prior must sum to 1; got .* sums to 0"),
        ({"prior": ()}, r"the weights of prior must sum to 1; got \[\], which sums to 0"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        WeightingConfig(kind="adaptive", **settings)
    with pytest.raises(ConfigError, match=message):
        EnsembleConfig(members=("a", "b"), weights={"kind": "adaptive", **settings})


@pytest.mark.parametrize("num", [1, 3])
def test_a_prior_for_more_or_fewer_members_is_refused_when_the_weights_are_built(num):
    config = WeightingConfig(kind="adaptive", prior=(0.5, 0.5))
    message = f"prior must have one weight a member, in their order: {num} members, got 2 weights; write one for each"
    with pytest.raises(ConfigError, match=message):
        config.build([SimpleNamespace(num_parameters=None)] * num)


def test_an_ensemble_refuses_such_a_prior(make_ensemble):
    with pytest.raises(ConfigError, match="2 members, got 3 weights"):
        make_ensemble(["the cat"], weights={"kind": "adaptive", "prior": (0.2, 0.3, 0.5)})


def test_weights_begin_by_the_size_of_the_models_or_as_they_are_given():
    members = [SimpleNamespace(num_parameters=size) for size in (10**9, 10**10, 10**9)]
    start = WeightingConfig(kind="adaptive").build(members).begin().current
    assert start[1] / start[0] == pytest.approx(10**0.4) and start[0] == start[2] and sum(start) == pytest.approx(1)
    given = WeightingConfig(kind="adaptive", prior=(0.1, 0.0, 0.9)).build(members).begin().current
    assert given == pytest.approx((0.1, 0.0, 0.9)) and given[1] == 0.0


@pytest.mark.parametrize("sizes", [(10, None), (None, None), (0, 10)])
def test_weights_begin_uniform_where_a_size_is_not_known(sizes):
    assert weigh_by_size(sizes) == (0.5, 0.5)


STORY = "The quick brown fox jumps over the lazy dog, and the cat sat on the mat."
OTHER = "Once upon a time there was a girl who liked to sing, and a boy who liked to run."


def test_who_knows_the_text_counts_in_the_end_whether_by_the_prompt_or_by_the_answer(make_ensemble):
    texts = {"bpe": [STORY], "sentencepiece": [OTHER]}
    ensemble = make_ensemble([], texts_of=texts, weights="adaptive", fusion={"method": "text"})
    params = SamplingParams(max_new_tokens=12)
    for text, expert, short in ((STORY, 0, 4), (OTHER, 1, 12)):
        by_the_answer, by_the_prompt = (
            ensemble.generate(text[:cut], params).fusion.weights[expert] for cut in (short, 40)
        )
        assert 0.6 < by_the_answer < by_the_prompt
        assert by_the_prompt > 0.95


def test_a_member_that_the_prior_leaves_out_never_counts(make_ensemble):
    texts = {"bpe": [STORY], "sentencepiece": [OTHER]}
    weights = {"kind": "adaptive", "prior": (1.0, 0.0)}
    ensemble = make_ensemble([], texts_of=texts, weights=weights, fusion={"method": "text"})
    assert ensemble.generate(OTHER[:40], SamplingParams(max_new_tokens=8)).fusion.weights == (1.0, 0.0)
