"""What a server can be told. Importing this loads no web framework."""

from __future__ import annotations

import ipaddress
from typing import Self

from pydantic import Field, SecretStr, model_validator

from deepen_llm.config.settings import Settings

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


class ServerSettings(Settings):
    """Where a server listens, whom it lets in, and how much it takes on."""

    host: str = "127.0.0.1"
    """The address to listen at; by default only this machine reaches it."""
    port: int = Field(default=8000, ge=0, le=65535)
    """The port; 0 takes a free one."""
    name: str = Field(default="deepen", min_length=1)
    """What the ensemble is called in requests; each member is called by its own name."""
    api_keys: tuple[SecretStr, ...] = ()
    """Keys of which each request must bring one (`Authorization: Bearer ...`); none lets everybody in."""
    cors_origins: tuple[str, ...] = ()
    """Web pages (`https://example.org`) whose scripts may send requests; `*` is every page."""
    allowed_hosts: tuple[str, ...] | None = None
    """The names under which the server may be asked, `*` for any. None: any, but where only this machine can reach the
    server its own names, so that no web page gets in by a name that it makes point here."""
    max_waiting: int = Field(default=128, ge=0)
    """How many answers may wait beside those that run; what comes then is sent away with status 429."""
    timeout_s: float = Field(default=600.0, gt=0, allow_inf_nan=False)
    """Seconds after which a request that is not answered fails, its time in the queue included."""
    max_tokens: int | None = Field(default=None, ge=1)
    """The most tokens that an answer may ask for; None leaves that to the context."""
    max_body_bytes: int = Field(default=4 << 20, ge=1)
    """The largest request."""
    body_timeout_s: float = Field(default=30.0, gt=0, allow_inf_nan=False)
    """Seconds within which a request must have arrived."""
    send_timeout_s: float = Field(default=60.0, gt=0, allow_inf_nan=False)
    """Seconds for which the reader of a stream may take nothing before it is cut off."""
    drain_s: float = Field(default=30.0, ge=0, allow_inf_nan=False)
    """Seconds that running answers have to come to their end once the server is asked to stop."""
    replicas: int = Field(default=1, ge=1)
    """How many processes answer, each with an ensemble of its own; more than one run in a Ray cluster."""
    replica_cpus: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    """CPU cores that Ray keeps for each of several replicas; its threads are as many."""
    replica_gpus: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """GPUs that Ray keeps for each of several replicas, and the only ones that it sees; a part of one, too."""

    @model_validator(mode="after")
    def _check_keys(self) -> Self:
        if not all(_is_printable(key.get_secret_value()) for key in self.api_keys):
            raise ValueError("an API key must be made of printable ASCII characters, one at least, and no spaces")
        return self

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches the server."""
        if self.host in LOOPBACK_NAMES:
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def host_names(self) -> tuple[str, ...]:
        """The names under which the server may be asked; `*` for any."""
        if self.allowed_hosts is not None:
            return self.allowed_hosts
        return tuple(dict.fromkeys((*LOOPBACK_NAMES, self.host))) if self.is_loopback else ("*",)


def _is_printable(key: str) -> bool:
    return bool(key) and key.isascii() and key.isprintable() and " " not in key
