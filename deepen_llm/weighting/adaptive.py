"""Weights that learn, word by word, whom to trust.

After a word to which member i gave probability q_i, two ways to learn from it run side by side:

    Soft-Bayes (Orseau, Lattimore and Legg, arXiv 1901.02230): one mixture w, which moves a little at every word,

        w_i  <-  w_i (1 - eta + eta q_i / m)          m = sum_i w_i q_i

    and Bayes' rule over that mixture and each member alone, which finds out within a few words where one of them is far
    ahead of the others, or all are better together:

        a_i  <-  a_i q_i / M        p  <-  p m / M    M = sum_i a_i q_i + p m

Member i counts a_i + p w_i. At the start the a_i sum to `alone`, and both they and w are the prior. Whatever the text,
the sum of -ln M over its words is at most

    that of any member i alone, and ln(1 / (alone prior_i)),
    and that of Soft-Bayes,     and ln(1 / (1 - alone)),

and Soft-Bayes' own is at most that of any member i, and ln(1 / prior_i) / eta. Against the best fixed mixture in
hindsight it loses a term of the order of sqrt(N T) over T words (section 4 of the paper).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Self, final

from pydantic import Field, model_validator

from deepen_llm.config.weighting import WeightingConfig, check_weights
from deepen_llm.errors import ConfigError
from deepen_llm.weighting.base import Weighting, Weights

if TYPE_CHECKING:
    from deepen_llm.members.guarded import GuardedMember

LEAST = 1e-300
"""What is left at least of a guess that nothing speaks for, so that it can come back."""
SIZE_EXPONENT = 0.4
"""Larger models are mostly better: with ten times the parameters the prior weight is 2.5 times as large."""


class AdaptiveWeightingConfig(WeightingConfig):
    """Settings of weights that learn."""

    kind: Literal["adaptive"] = "adaptive"
    prior: tuple[float, ...] | None = None
    """The weights at the start of a request, one per member; 0 leaves a member out. None: by how large the models are,
    uniform where that is not known of all of them."""
    eta: float = Field(default=0.15, ge=0.0, le=1.0)
    """How fast the mixture moves; 0 keeps the prior."""
    alone: float = Field(default=0.4, ge=0.0, lt=1.0)
    """How much the guess counts at the start that a single member is best by itself."""

    @model_validator(mode="after")
    def _check_prior(self) -> Self:
        if self.prior is not None:
            check_weights(self.prior, len(self.prior), "the weights of prior")
        return self

    def build(self, members: Sequence[GuardedMember]) -> AdaptiveWeighting:
        """See `WeightingConfig.build`.

        Raises:
            ConfigError: The prior has more or fewer weights than there are members.
        """
        prior = self.prior
        if prior is None:
            prior = weigh_by_size([member.num_parameters for member in members])
        elif len(prior) != len(members):
            raise ConfigError(
                f"prior must have one weight a member, in their order: {len(members)} members, got {len(prior)} "
                f"weights; write one for each, or leave prior out"
            )
        return AdaptiveWeighting(prior, self.eta, self.alone)


def weigh_by_size(sizes: Sequence[int | None]) -> tuple[float, ...]:
    """Weights by numbers of parameters; uniform where one is not known."""
    known = [size for size in sizes if size]
    shares = [size**SIZE_EXPONENT for size in known] if len(known) == len(sizes) else [1.0] * len(sizes)
    return tuple(share / sum(shares) for share in shares)


@final
class AdaptiveWeighting(Weighting):
    """Begins every request with the prior."""

    reads_prompt = True

    def __init__(self, prior: Sequence[float], eta: float = 0.15, alone: float = 0.4) -> None:
        """See the module; `prior` is one weight per member, summing to 1."""
        self._alone, self._eta = alone, eta
        self._start = self.begin_with(prior)

    def begin(self) -> AdaptiveWeights:
        """See `Weighting.begin`."""
        return self._start

    def begin_with(self, prior: Sequence[float]) -> AdaptiveWeights:
        """See `Weighting.begin_with`: another prior to learn from."""
        guesses = tuple(self._alone * weight for weight in prior)
        return AdaptiveWeights(guesses, 1.0 - self._alone, tuple(prior), self._eta)


@final
class AdaptiveWeights(Weights):
    """The weights at one place of one request."""

    def __init__(
        self, alone: tuple[float, ...], share_of_mixture: float, mixture: tuple[float, ...], eta: float
    ) -> None:
        """Each member's weight by itself, that of the mixture, which all sum to 1; and the mixture's own weights."""
        self._alone, self._share, self._mixture, self._eta = alone, share_of_mixture, mixture, eta
        self._current = tuple(a + share_of_mixture * w for a, w in zip(alone, mixture, strict=True))

    @property
    def current(self) -> tuple[float, ...]:
        """See `Weights.current`."""
        return self._current

    def after_word(self, given: Sequence[float]) -> AdaptiveWeights:
        """See `Weights.after_word`. A word that nobody with weight thinks possible changes nothing."""
        most = max((g for w, g in zip(self._current, given, strict=True) if w > 0), default=0.0)
        if not most > 0:
            return self
        given = [min(g / most, 1.0) for g in given]  # else their products could round to nothing
        total = sum(w * g for w, g in zip(self._current, given, strict=True))
        mixed = sum(w * g for w, g in zip(self._mixture, given, strict=True))
        alone = [max(a * g / total, LEAST) if a > 0 else 0.0 for a, g in zip(self._alone, given, strict=True)]
        share, mixture = max(self._share * mixed / total, LEAST), self._mixture
        if mixed > 0:
            moved = [w * (1 - self._eta + self._eta * g / mixed) for w, g in zip(mixture, given, strict=True)]
            mixture = _scale([max(m, LEAST) if w > 0 else 0.0 for m, w in zip(moved, mixture, strict=True)])
        *alone, share = _scale([*alone, share])
        return AdaptiveWeights(tuple(alone), share, mixture, self._eta)


def _scale(weights: Sequence[float]) -> tuple[float, ...]:
    """The weights made to sum to 1, against rounding."""
    total = sum(weights)
    return tuple(weight / total for weight in weights)
