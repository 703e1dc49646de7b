"""Which class of transformers a member's model is loaded as, and which architectures it can have."""

from __future__ import annotations

from typing import Any

from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING

from deepen_llm.errors import MemberError, quote

ENCODER_DECODER = "encoder-decoder"
"""The kind of member that has an encoder."""
NEEDED = {
    "transformers": ("a decoder-only causal language model", "a decoder-only"),
    ENCODER_DECODER: ("a sequence-to-sequence model", "an encoder-decoder"),
}
HINTS = {
    "a decoder-only": "take kind='transformers'",
    "an encoder-only": "leave it out or take a model in its place that writes text",
    "an encoder-decoder": f"take kind={ENCODER_DECODER!r}, which gives a part of the prompt to its encoder",
}


def model_class(kind: str) -> Any:
    """What loads the models of a kind of member."""
    return AutoModelForSeq2SeqLM if kind == ENCODER_DECODER else AutoModelForCausalLM


def check_architecture(settings: PreTrainedConfig, kind: str, name: str) -> None:
    """Refuse a model of another architecture than the kind of member takes.

    Raises:
        MemberError: It says what the model is, and which kind takes it, if any.
    """
    found = _describe(settings)
    needed, wanted = NEEDED.get(kind, NEEDED["transformers"])
    if found != wanted:
        raise MemberError(
            f"member {quote(name)} must be {needed}; {settings.model_type!r} is {found} model: {HINTS[found]}"
        )


def _describe(settings: PreTrainedConfig) -> str:
    if settings.is_encoder_decoder:
        return "an encoder-decoder"
    is_encoder = type(settings) in MODEL_FOR_MASKED_LM_MAPPING and not getattr(settings, "is_decoder", False)
    return "an encoder-only" if is_encoder else "a decoder-only"
