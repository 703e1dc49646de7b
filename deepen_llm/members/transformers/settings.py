"""Settings of members that transformers runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from deepen_llm.config.members import MemberConfig

if TYPE_CHECKING:
    from deepen_llm.members.base import Member


class TransformersConfig(MemberConfig):
    """A decoder-only model that `transformers` loads, and how it does."""

    kind: Literal["transformers"] = "transformers"
    dtype: str = "auto"
    """A torch dtype by name ("float32", "bfloat16", ...) or "auto" for the checkpoint's own."""
    device: str | None = None
    """One device for the whole model, such as "cuda:1"; not together with `device_map`."""
    device_map: str | dict[str, Any] | None = None
    """Placement by accelerate, such as "auto"."""
    attn_implementation: str | None = None
    """Such as "sdpa", "eager" or "flash_attention_2"."""
    quantization_config: Any = None
    """A transformers quantization config, or its dictionary."""
    revision: str | None = None
    """Branch, tag or commit on the hub."""
    local_files_only: bool = False
    """Never ask the hub."""
    trust_remote_code: bool = False
    """Run code that comes with the checkpoint. Off unless asked for."""
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Any further argument of `from_pretrained` (`adapter_kwargs`, `variant`, `subfolder`, ...)."""

    @model_validator(mode="after")
    def _check_placement(self) -> Self:
        if self.device is not None and self.device_map is not None:
            raise ValueError("give either device or device_map, not both")
        return self

    def load(self) -> Member:
        """See `MemberConfig.load`."""
        from deepen_llm.members.transformers.member import TransformersMember

        return TransformersMember.load(self)
