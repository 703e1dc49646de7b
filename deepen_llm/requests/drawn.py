"""What an answer cannot be asked for where one member is drawn for each word (`fuse="drawn"`).

To draw a member and then a token is the ensemble's distribution as it is. What changes that distribution (a
temperature, filters, penalties, a structure) does something else to the mean than to each member alone; what tells it
(log-probabilities, traces) would need all of them.
"""

from __future__ import annotations

from deepen_llm.config import SamplingParams
from deepen_llm.errors import ConfigError

UNCHANGED = (
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "min_new_tokens",
    "ignore_eos",
)
"""Settings that change what the ensemble says."""
TOLD = ("logprobs", "trace")
"""Settings that tell it."""
STRUCTURES = ("json_schema", "regex", "grammar")


def check_drawn_params(params: SamplingParams) -> None:
    """Refuse what cannot be had of members of which one is drawn for each word.

    Raises:
        ConfigError: It names the setting.
    """
    if params.temperature != 1:
        raise ConfigError(
            f"fuse='drawn' draws from what the members say as it is, at temperature 1; got temperature="
            f"{params.temperature:g}: write SamplingParams(temperature=1.0), give each member a temperature of its own "
            "(MemberConfig), or write FusionConfig(fuse='always')"
        )
    for name in (*UNCHANGED, *TOLD, *STRUCTURES):
        given = getattr(params, name)
        if given == SamplingParams.model_fields[name].get_default():
            continue
        why = "is not known there" if name in TOLD else "would change what each member says, not what all of them do"
        raise ConfigError(
            f"fuse='drawn' asks one member for each word, and {name} {why}: leave {name} out, or write "
            "FusionConfig(fuse='always')"
        )
