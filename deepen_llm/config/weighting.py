"""How much each member counts: what every way to weigh can be told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator

from deepen_llm.config.settings import Variants

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


GivenWeights = Annotated[tuple[float, ...] | str | WeightingConfig | None, BeforeValidator(check_word)]
"""Weights as users give them: numbers, a word, settings, or None for uniform ones."""
