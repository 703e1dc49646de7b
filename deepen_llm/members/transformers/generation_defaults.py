"""The `generation_config` of a model of transformers."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel

from deepen_llm.errors import MemberError
from deepen_llm.members.generation_defaults import ENDS, SUPPRESSED, GenerationDefaults

SAYS_NOTHING = {"transformers_version", "bos_token_id", "pad_token_id", "use_cache", "return_dict_in_generate"}
"""Not of which tokens come."""


def read_generation_defaults(model: PreTrainedModel, name: str, num_logits: int) -> GenerationDefaults:
    """What the model's `generation_config` says that is not as transformers has it by default.

    Args:
        model: It may have none.
        name: What errors call it.
        num_logits: How many tokens it has.

    Raises:
        MemberError: Suppressed tokens that are no token ids.
    """
    config = getattr(model, "generation_config", None)
    if config is None:
        return GenerationDefaults()
    settings = {key: value for key, value in config.to_diff_dict().items() if _says_something(key, value)}
    never, first = (_read_ids(settings.get(key), f"{name!r}: generation_config.{key}") for key in SUPPRESSED)
    return GenerationDefaults(_within(never, num_logits), _within(first, num_logits), settings)


def _says_something(key: str, value: Any) -> bool:
    if value is None or value is False or value == []:
        return False
    return key == ENDS or not (key.startswith(("_", "output_", "cache_")) or key in SAYS_NOTHING)


def _read_ids(ids: Any, where: str) -> list[int]:
    listed = [] if ids is None else ids
    if not isinstance(listed, list) or any(not isinstance(one, int) or isinstance(one, bool) for one in listed):
        raise MemberError(f"member {where} must be a list of token ids; got {str(ids)[:60]!r}: mend the file")
    return listed


def _within(ids: list[int], num_logits: int) -> tuple[int, ...]:
    """Those that have a logit; what has none never comes."""
    return tuple(token_id for token_id in ids if 0 <= token_id < num_logits)
