"""What every kind of member can be told."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike, fspath
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field

from deepen_llm.config.settings import Variants

if TYPE_CHECKING:
    from deepen_llm.members.base import Member

KINDS = {
    "transformers": "deepen_llm.members.transformers.settings:TransformersConfig",
    "encoder-decoder": "deepen_llm.members.encoder_decoder.settings:EncoderDecoderConfig",
    "gguf": "deepen_llm.members.gguf.settings:GGUFConfig",
    "server": "deepen_llm.members.server.settings:ServerConfig",
    "ray": "deepen_llm.members.ray.settings:RayConfig",
}
"""The kinds of member, each with the class of its settings. A new kind is a file and a line here."""


Place = Annotated[str, BeforeValidator(lambda place: fspath(place) if isinstance(place, PathLike) else place)]
"""A folder or file, as text or as a path, a name on the hub, or an address."""


class MemberConfig(Variants):
    """One member: a model, and how to load it. `kind` says which settings there are beside these."""

    if TYPE_CHECKING:

        def __init__(self, **values: Any) -> None:
            """Takes the settings of the kind that is named."""

    variant_field = "kind"
    variants = KINDS

    model: Place
    """A folder, the name of a model on the Hugging Face hub, a GGUF file, or the address of a server."""
    kind: str = "transformers"
    """What runs the model. Where it is not given, `model` tells: "gguf" for a file `*.gguf`, "server" for an address
    (`http://...`); `device="ray"` is "ray"; all else is "transformers"."""
    name: str | None = None
    """What errors and traces call this member; its folder or hub name where not given."""
    tokenizer: Place | None = None
    """Where the tokenizer comes from, if not from `model`."""
    chat_template: str | None = None
    """A Jinja chat template in place of the tokenizer's own; "plain" writes roles in words, for a model without one."""
    temperature: float = Field(default=1.0, gt=0.0, allow_inf_nan=False)
    """Divides this model's logits before anything is read of them: above 1 for a model that is too sure of itself, as
    `deepen calibrate` finds out. Not the temperature of sampling, which is `SamplingParams.temperature`."""

    @classmethod
    def choose_variant(cls, values: Mapping[str, Any]) -> Any:
        """The kind that is named, or that the model's place and device are of."""
        if values.get("device") == "ray":
            return "ray"  # whichever kind is named: that is what the actor holds
        return values[cls.variant_field] if cls.variant_field in values else _find_kind(values)

    @property
    def foreign_code(self) -> tuple[str, ...]:
        """The settings by which code may run that comes with the model, as a file writes them; none by default."""
        return ()

    @property
    def sent_variables(self) -> tuple[str, ...]:
        """The environment variables whose values leave this machine, such as a server's key; none by default."""
        return ()

    def load(self) -> Member:
        """Load the model.

        Raises:
            MemberError: No such model, or one that cannot be a member.
            MissingDependencyError: A package that the kind needs is not installed.
            VocabularyError: A tokenizer that cannot be read as bytes.
        """
        raise NotImplementedError


def _find_kind(values: Mapping[str, Any]) -> str:
    """The kind of member that settings describe without naming it."""
    model = values.get("model")
    place = fspath(model) if isinstance(model, PathLike) else model
    if isinstance(place, str) and place.startswith(("http://", "https://")):
        return "server"
    if isinstance(place, str) and place.lower().endswith(".gguf"):
        return "gguf"
    return "transformers"
