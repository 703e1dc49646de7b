"""What a model's `forward` calls the cache that it is handed."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from transformers import PreTrainedModel

from deepen_llm.errors import MemberError

NAMES = ("cache", "cache_params", "past_key_values")
"""The newest first: transformers 5.24 renamed the two others, and a model that knows neither name would take a cache as
one more keyword, and answer without it."""


def find_cache_argument(model: PreTrainedModel) -> str:
    """The name of the cache among the parameters of a model's `forward`.

    Raises:
        MemberError: It has none of the known ones.
    """
    # An adapter's wrapper takes whatever the model within takes.
    within = getattr(model, "get_base_model", None)
    forward: Callable[..., Any] = (model if within is None else within()).forward
    accepts = inspect.signature(forward).parameters
    for name in NAMES:
        if name in accepts:
            return name
    raise MemberError(
        f"{type(model).__name__}.forward must take a cache as one of {', '.join(NAMES)}; it takes "
        f"{', '.join(accepts)}: this architecture cannot be a member with this version of transformers"
    )
