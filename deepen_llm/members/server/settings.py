"""Settings of members behind a server."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from deepen_llm.config.members import MemberConfig
from deepen_llm.errors import ConfigError, quote

if TYPE_CHECKING:
    from deepen_llm.members.base import Member

LOOPBACK = ("localhost", "127.0.0.1", "::1")
Dialect = Literal["auto", "llama-server", "sglang", "vllm", "deepen"]


def _read_address(address: str) -> str:
    """An address without what may be typed after it: the slash, and the `/v1` that other clients want.

    One with a password in it is not repeated.
    """
    if "@" in address:
        raise ConfigError(
            "the address of a server must not hold a user or a password, which would stand in logs and files: leave it "
            "out, and name the environment variable that holds the server's key with api_key_env"
        )
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"model must be the address of a server, such as http://127.0.0.1:8080 ({error})") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or parts.query or parts.fragment:
        raise ValueError("model must be the address of a server, such as http://127.0.0.1:8080")
    return address.rstrip("/").removesuffix("/v1").rstrip("/")


def _read_key(key: Any) -> Any:
    """A key as a text; something else is not repeated."""
    if key is None or isinstance(key, (str, SecretStr)):
        return key
    raise ConfigError(f"api_key must be a text; got a {type(key).__name__}: put it in quotes, or use api_key_env")


class ServerConfig(MemberConfig):
    """A model behind a server, and how it is asked."""

    kind: Literal["server"] = "server"
    model: Annotated[str, AfterValidator(_read_address)]
    """The address of the server, such as "http://127.0.0.1:8080"."""
    server_model: str | None = None
    """Which model, by the name that the server gives it; needed where it has several."""
    dialect: Dialect = "auto"
    """What kind of server it is; "auto" asks it."""
    top: int = Field(default=256, ge=1, le=20_000)
    """Of how many tokens, the most probable ones, each step is told; what is left is spread evenly over the others.
    Below 100 answers get measurably worse."""
    timeout_s: float = Field(default=60.0, gt=0, allow_inf_nan=False)
    """The most seconds that a step may take, the first one of a long prompt included."""
    api_key_env: str | None = Field(default=None, min_length=1)
    """The environment variable that holds the server's key, which is sent as a bearer token. A file, which may be a
    stranger's, names only variables that begin with `DEEPEN_`."""
    api_key: Annotated[SecretStr | None, BeforeValidator(_read_key)] = Field(default=None, exclude=True)
    """The key itself. It is never written into a file; `api_key_env` is what a file can hold."""

    @property
    def key(self) -> SecretStr | None:
        """The server's key; None where it needs none.

        Raises:
            ConfigError: Both a key and a variable are given, the variable is not set, or no header can hold the key.
        """
        if self.api_key is not None and self.api_key_env is not None:
            raise ConfigError("give either api_key or api_key_env, not both")
        key = self.api_key
        if self.api_key_env is not None:
            value = os.environ.get(self.api_key_env)
            if not value:
                raise ConfigError(
                    f"api_key_env={quote(self.api_key_env)} must name an environment variable that holds the key of "
                    f"the server {self.model}; it is not set: export it, or name another"
                )
            key = SecretStr(value)
        if key is not None and not (key.get_secret_value().isascii() and key.get_secret_value().isprintable()):
            raise ConfigError("the key of a server must be printable ASCII characters; this one has others: correct it")
        return key

    @property
    def sent_variables(self) -> tuple[str, ...]:
        """See `MemberConfig.sent_variables`: the one that holds the key."""
        return () if self.api_key_env is None else (self.api_key_env,)

    @property
    def is_open_to_all(self) -> bool:
        """Whether what is sent can be read on its way: another machine, and no encryption."""
        parts = urlsplit(self.model)
        return parts.scheme == "http" and parts.hostname not in LOOPBACK

    def load(self) -> Member:
        """See `MemberConfig.load`."""
        from deepen_llm.members.server.member import ServerMember

        return ServerMember.load(self)
