"""How much each member counts: what every way to weigh can be told."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import BeforeValidator

from deepen_llm.config.settings import Variants
from deepen_llm.errors import quote

if TYPE_CHECKING:
    from deepen_llm.members.guarded import GuardedMember
    from deepen_llm.weighting.base import Weighting

WEIGHTINGS = {
    "adaptive": "deepen_llm.weighting.adaptive:AdaptiveWeightingConfig",
    "prompt": "deepen_llm.weighting.prompt:PromptWeightingConfig",
}
"""The ways to weigh each request, each with the class of its settings. A new one is a file and a line here."""


class WeightingConfig(Variants):
    """A way to give each request weights of its own; `kind` says which, and which settings there are."""

    if TYPE_CHECKING:

        def __init__(self, **values: Any) -> None:
            """Takes the settings of the kind that is named."""

    variant_field = "kind"
    variants = WEIGHTINGS
    learns: ClassVar[bool] = True
    """Whether weights change with what every member gives the words of an answer."""

    kind: str = "adaptive"
    """`adaptive`: they learn from what each member gives the prompt and then the answer, word by word; `prompt`: from
    how well each member predicts the prompt."""

    def build(self, members: Sequence[GuardedMember]) -> Weighting:
        """The weighting for these members."""
        raise NotImplementedError


def check_word(weights: Any) -> Any:
    """Weights as they are, unless they are a word that names no way to weigh.

    Raises:
        ValueError: One message, in place of one for every kind of value that weights may be.
    """
    if isinstance(weights, str) and weights not in WeightingConfig.variants:
        known = " or ".join(map(repr, WeightingConfig.variants))
        raise ValueError(f"weights must be numbers, one per member and summing to 1, or the word {known}")
    return weights


def check_weights(weights: tuple[float, ...], num_members: int, name: str = "weights") -> None:
    """Refuse weights that are not a distribution over the members; messages call them by `name`.

    Raises:
        ValueError: Wrong number, a negative or infinite weight, or a sum other than 1.
    """
    if len(weights) != num_members:
        raise ValueError(f"{name} must be one a member: {num_members} members, got {len(weights)} weights")
    if any(not math.isfinite(weight) or weight < 0 for weight in weights):
        raise ValueError(f"{name} must be finite and not negative; got {quote(list(weights))}")
    if not math.isclose(sum(weights), 1.0, abs_tol=1e-6):
        raise ValueError(f"{name} must sum to 1; got {quote(list(weights))}, which sums to {sum(weights):g}")


GivenWeights = Annotated[tuple[float, ...] | str | WeightingConfig | None, BeforeValidator(check_word)]
"""Weights as users give them: numbers, a word, settings, or None for uniform ones."""
