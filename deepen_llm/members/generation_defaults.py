"""What a model's own settings say of how it generates, and what an ensemble makes of that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

ENDS = "eos_token_id"
SUPPRESSED = ("suppress_tokens", "begin_suppress_tokens")
MOST_IDS = 8


@final
@dataclass(frozen=True, slots=True)
class GenerationDefaults:
    """A model's `generation_config`, as far as it says something.

    What the main model can end with and must not say is followed: it belongs to the model. How tokens are drawn belongs
    to the ensemble, whose own defaults hold: the models' would contradict each other. Of the other members only
    the ends count, since they speak in their own tokens.
    """

    suppressed_ids: tuple[int, ...] = ()
    """Tokens that never come."""
    first_suppressed_ids: tuple[int, ...] = ()
    """Tokens with which no answer begins."""
    settings: Mapping[str, object] = field(default_factory=dict)
    """What it says, under the names of transformers."""

    def followed(self, *, is_main: bool) -> list[str]:
        """Its settings that hold in an ensemble, each with its value."""
        names = (ENDS, *SUPPRESSED) if is_main else (ENDS,)
        return [_describe(name, self.settings[name]) for name in names if name in self.settings]

    def passed_over(self, *, is_main: bool) -> list[str]:
        """Its settings that do not."""
        names = (ENDS, *SUPPRESSED) if is_main else (ENDS,)
        return [_describe(name, value) for name, value in self.settings.items() if name not in names]


def _describe(name: str, value: object) -> str:
    if not isinstance(value, list | tuple):
        return f"{name} {str(value)[:60]}"
    more = f" and {len(value) - MOST_IDS} more" if len(value) > MOST_IDS else ""
    return f"{name} {', '.join(str(one)[:20] for one in value[:MOST_IDS])}{more}"
