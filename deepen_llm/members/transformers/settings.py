"""Settings of members that transformers runs."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from deepen_llm.config.members import MemberConfig, Place
from deepen_llm.errors import quote
from deepen_llm.garbage import uncollected

if TYPE_CHECKING:
    from deepen_llm.members.base import Member

DTYPES = ("auto", "float32", "float16", "bfloat16", "float64")
DTYPE_ALIASES = {"float": "float32", "half": "float16", "double": "float64"}
SAFE_ARGUMENTS = {"use_safetensors": True, "weights_only": True, "use_kernels": False, "allow_all_kernels": False}
"""Arguments of `from_pretrained` that keep foreign code out with these values only: a pickle may run any."""


def _read_dtype(dtype: Any) -> Any:
    """A number format by its one name; also torch's own object for it."""
    name = dtype if isinstance(dtype, str) else str(dtype) if type(dtype).__module__ == "torch" else None
    if name is None:
        return dtype
    name = DTYPE_ALIASES.get(name.removeprefix("torch."), name.removeprefix("torch."))
    if name not in DTYPES:
        near = difflib.get_close_matches(name[:100], DTYPES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "write one of them"
        raise ValueError(f"a model's number format is one of {', '.join(map(repr, DTYPES))}: {hint}")
    return name


class TransformersConfig(MemberConfig):
    """A decoder-only model that `transformers` loads, and how it does."""

    kind: Literal["transformers"] = "transformers"
    adapter: Place | None = None
    """An adapter (LoRA and its like, by peft) over `model`: its folder or hub name. Where `model` is an adapter's own,
    the base that it names is loaded. Members over one base share its weights."""
    dtype: Annotated[str, BeforeValidator(_read_dtype), Field(strict=True)] = "auto"
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
    record_passes: bool = True
    """Record short passes once and run them without the model's Python code, where that can be done: a trace on the
    CPU, a CUDA graph on a GPU, with sdpa attention. What was recorded is compared with the model now and then. False:
    the model itself runs every pass."""
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Any further argument of `from_pretrained` (`adapter_kwargs`, `variant`, `subfolder`, ...)."""

    @model_validator(mode="after")
    def _check_placement(self) -> Self:
        if self.device is not None and self.device_map is not None:
            raise ValueError("give either device or device_map, not both")
        return self

    @model_validator(mode="after")
    def _check_model_kwargs(self) -> Self:
        if named_twice := sorted(self.model_kwargs.keys() & type(self).model_fields.keys()):
            name = named_twice[0]
            raise ValueError(f"model_kwargs holds what has no setting; {name!r} has one: write {name}=... in its place")
        return self

    @property
    def foreign_code(self) -> tuple[str, ...]:
        """See `MemberConfig.foreign_code`: code of the checkpoint or of the hub's kernels, and pickles."""
        asked = ["trust_remote_code: true"] if self.trust_remote_code else []
        if self.attn_implementation is not None and "/" in self.attn_implementation:
            asked.append(f"attn_implementation: {quote(self.attn_implementation)}")
        unsafe = [name for name, safe in SAFE_ARGUMENTS.items() if self.model_kwargs.get(name, safe) is not safe]
        unsafe += [name for name in ("kernel_config",) if self.model_kwargs.get(name)]
        return (*asked, *(f"model_kwargs.{name}: {quote(self.model_kwargs[name])}" for name in unsafe))

    def load(self) -> Member:
        """See `MemberConfig.load`."""
        with uncollected:
            from deepen_llm.members.transformers.member import TransformersMember

        return TransformersMember.load(self)
