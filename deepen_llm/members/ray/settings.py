"""Settings of members that run in actors of a Ray cluster."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, SerializationInfo, field_validator, model_serializer, model_validator

from deepen_llm.config.members import MemberConfig
from deepen_llm.errors import ConfigError, quote

if TYPE_CHECKING:
    from deepen_llm.members.base import Member

WORDS = ("auto", "local")
"""Addresses that are none: the cluster that runs on this machine, and one of this process alone."""
SHARED = ("model", "name", "tokenizer", "chat_template")
"""What the member in the actor is told as it stands. Its temperature is not: that comes in where logits are read."""


class RayConfig(MemberConfig):
    """A member of any other kind in an actor of a Ray cluster, what the actor needs, and what happens when it dies.

    All settings of that other kind are taken as well, and handed to it: `MemberConfig(model="org/large", device="ray",
    num_gpus=1, dtype="bfloat16")`.
    """

    model_config = ConfigDict(extra="allow")
    applies: ClassVar = {"max_restarts": ("on_member_failure", "restart")}

    kind: Literal["ray"] = "ray"
    device: Literal["ray"] = "ray"
    """What makes it a member in an actor; where the model lies there is `actor_device`."""
    holds: str | None = None
    """The kind of the member in the actor, whose settings may be given, too; `model` tells it where it is not given.
    `kind="transformers", device="ray"` says the same."""
    actor_device: str | None = None
    """The device of the model in its actor, such as "cuda"; where it is not given, "cuda" for an actor with GPUs."""
    num_cpus: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    """CPU cores that Ray keeps for the actor; its threads are as many."""
    num_gpus: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """GPUs that Ray keeps for the actor, and the only ones that it sees; a part of one, too."""
    resources: dict[str, float] = Field(default_factory=dict)
    """What else it needs of the cluster, by the names that its nodes were started with: so a node is chosen."""
    placement_group: str | None = None
    """The name of a placement group in which it is to run."""
    bundle: int = Field(default=-1, ge=-1)
    """The bundle of that group; -1 for any."""
    address: str | None = None
    """Where the cluster is: "host:port", or "auto" for the one that runs on this machine. Where it is not given, the
    one that this process is connected to, or that `RAY_ADDRESS` names, or runs here, or else a new one of this process
    alone, which is "local"."""
    top: int = Field(default=256, ge=1)
    """How many tokens, the most probable ones, the actor tells of; what is left is spread evenly over the others."""
    on_member_failure: Literal["restart", "fail"] = "restart"
    """When the actor dies: "restart" starts another and feeds it what it had been fed, so that the answers go on;
    with "fail" the requests fail, and those that follow."""
    max_restarts: int = Field(default=3, ge=0)
    """How often in a row, without an answer in between, an actor is started anew."""
    timeout_s: float = Field(default=120.0, gt=0, allow_inf_nan=False)
    """How long a forward pass may take. An actor that takes longer counts as dead, and the pass fails."""
    room_timeout_s: float = Field(default=60.0, gt=0, allow_inf_nan=False)
    """How long to wait for the cluster to have room for the actor."""
    load_timeout_s: float = Field(default=900.0, gt=0, allow_inf_nan=False)
    """How long loading the model may take, and so feeding an actor anew."""

    @model_validator(mode="before")
    @classmethod
    def _read_kind(cls, values: Any) -> Any:
        """A kind that is named beside `device="ray"` is that of the member in the actor."""
        kind = values.get("kind") if isinstance(values, dict) else None
        if not isinstance(kind, str) or kind == "ray":
            return values
        if values.get("holds") not in (None, kind):
            raise ValueError(f"kind={quote(kind)} and holds={quote(values['holds'])} are two kinds: write one of them")
        return {**values, "kind": "ray", "holds": kind}

    @field_validator("address")
    @classmethod
    def _check_address(cls, address: str | None) -> str | None:
        if address is not None and address not in WORDS:
            split_address(address)
        return address

    @field_validator("resources")
    @classmethod
    def _check_resources(cls, resources: dict[str, float]) -> dict[str, float]:
        for name, number in resources.items():
            if name in ("CPU", "GPU"):
                raise ValueError(f"{name} has a setting of its own: write num_{name.lower()}s={number:g}")
            if not 0 <= number < float("inf"):
                raise ValueError("how much of a resource is needed must be a finite number, not negative")
        return resources

    @model_validator(mode="after")
    def _check_held(self) -> Self:
        given = self.model_extra or {}
        for name in given.keys() - self._held_class.model_fields.keys():
            if near := difflib.get_close_matches(name, type(self).model_fields, n=1, cutoff=0.8):
                raise ValueError(f"there is no setting {quote(name)}: did you mean {near[0]!r}?")
        held = self.held
        given.update({name: getattr(held, name) for name in given})  # as they were read
        return self

    @property
    def held(self) -> MemberConfig:
        """The settings of the member in the actor.

        Raises:
            ConfigError: Settings that it does not have, or that it cannot use.
        """
        given = {name: getattr(self, name) for name in SHARED if name in self.model_fields_set}
        given |= self.model_extra or {}
        is_placed = "device" not in self._held_class.model_fields or given.get("device_map") is not None
        if self.actor_device is not None:
            given["device"] = self.actor_device
        elif self.num_gpus and not is_placed:
            given["device"] = "cuda"
        return self._held_class(**given)

    @property
    def _held_class(self) -> type[MemberConfig]:
        if self.holds == "ray":
            raise ConfigError("holds must be a kind other than 'ray': an actor holds no actor")
        return MemberConfig.variant(self.holds or MemberConfig.choose_variant({"model": self.model}))

    @model_serializer(mode="plain")
    def _dump(self, info: SerializationInfo) -> dict[str, object]:
        """Also the settings of the member in the actor, but those that are never written."""
        kept = self._held_class.model_fields
        given = {name: value for name, value in (self.model_extra or {}).items() if not kept[name].exclude}
        return {**super()._dump(info), **given}

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        shown = self._held_class.model_fields
        for name, value in super().__repr_args__():
            if name not in shown or shown[name].repr:
                yield name, value

    @property
    def foreign_code(self) -> tuple[str, ...]:
        """See `MemberConfig.foreign_code`: that of the member in the actor."""
        return self.held.foreign_code

    @property
    def sent_variables(self) -> tuple[str, ...]:
        """See `MemberConfig.sent_variables`: those of the member in the actor."""
        return self.held.sent_variables

    def load(self) -> Member:
        """See `MemberConfig.load`."""
        from deepen_llm.members.ray.member import RayMember

        return RayMember.load(self)


def split_address(address: str) -> tuple[str, int]:
    """Host and port of a cluster.

    Raises:
        ValueError: They are not there.
    """
    if address.startswith("ray://"):
        raise ValueError(
            "a coordinator must run on a machine of the cluster, so its address is 'host:port', not 'ray://'"
        )
    parts = urlsplit(f"//{address}")
    if parts.hostname and parts.port and parts.netloc == address:
        return parts.hostname, parts.port
    raise ValueError("the address of a Ray cluster is 'host:port', 'auto' or 'local'")
