"""The Ray cluster that this process is connected to; Ray allows one."""

from __future__ import annotations

import os
import socket
import threading
from types import ModuleType
from typing import Any, ClassVar, final

from deepen_llm.errors import ConfigError, MemberError, MissingDependencyError, quote
from deepen_llm.members.ray.settings import WORDS, split_address

CONNECT_TIMEOUT_S = 5.0
"""Ray itself would try for minutes."""


def import_ray(name: str) -> ModuleType:
    """Ray, for a member of this name.

    Raises:
        MissingDependencyError: It is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingDependencyError(
            f"member {quote(name)} (kind 'ray') runs in an actor of a Ray cluster, which needs the package ray: "
            "pip install 'deepen-llm[ray]'"
        ) from error
    module: ModuleType = ray
    return module


@final
class Connection:
    """One member's hold on the connection. The last one ends it, where the first one has made it."""

    _lock: ClassVar = threading.Lock()
    _num_open: ClassVar[int] = 0
    _is_own: ClassVar[bool] = False

    def __init__(self, address: str | None, name: str) -> None:
        """Connect this process, or see that it is connected.

        Args:
            address: As in `RayConfig`.
            name: The member's, for errors.

        Raises:
            ConfigError: The process is connected to another cluster.
            MemberError: Nobody answers there.
            MissingDependencyError: Ray is not installed.
        """
        self.ray = import_ray(name)
        self._is_open = False
        with self._lock:
            if self.ray.is_initialized():
                _check_same(address, self.ray.get_runtime_context().gcs_address, name)
            else:
                connect(self.ray, address, f"member {quote(name)}")
                type(self)._is_own = True
            type(self)._num_open += 1
            self._is_open = True

    def close(self) -> None:
        """Let go of it."""
        with self._lock:
            if not self._is_open:
                return
            self._is_open = False
            type(self)._num_open -= 1
            if self._is_own and not self._num_open:
                type(self)._is_own = False
                self.ray.shutdown()

    def describe_room(self) -> str:
        """What the cluster has, in words, its nodes in order."""
        nodes = [node for node in self.ray.nodes() if node["Alive"]]
        shown = sorted(f"{node['NodeManagerAddress']}: {show_resources(node['Resources'])}" for node in nodes)
        free = show_resources(self.ray.available_resources())
        return f"the cluster's nodes have {'; '.join(shown)}; free in all are {free}"


def connect(ray: Any, address: str | None, who: str) -> None:
    """Connect this process to a cluster; where there is none and none is named, one is started on this machine.

    Args:
        ray: Ray, which is not connected yet.
        address: As in `RayConfig`; where it is None, RAY_ADDRESS counts.
        who: What needs it, for errors.

    Raises:
        ConfigError: RAY_ADDRESS is no address.
        MemberError: Nobody answers there.
    """
    named = address or os.environ.get("RAY_ADDRESS")
    if named is not None and named not in WORDS:
        _check_answers(named, who)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    own = {} if named not in (None, "local") else {"include_dashboard": False}
    try:
        ray.init(address=address, log_to_driver=False, logging_level="WARNING", **own)
    except (OSError, RuntimeError, ValueError) as error:
        raise MemberError(
            f"{who} cannot be loaded: there is no Ray cluster at address={quote(named or 'auto')} "
            f"({error}): start one (ray start --head), or leave address out"
        ) from error


def show_resources(resources: dict[str, float]) -> str:
    """CPU, GPU and what else nodes were started with, in words."""
    own = {
        name: number for name, number in resources.items() if not name.startswith(("node:", "object_store", "memory"))
    }
    return ", ".join(f"{number:g} {name}" for name, number in sorted(own.items())) or "nothing"


def _check_answers(address: str, who: str) -> None:
    try:
        host, port = split_address(address)
    except ValueError as error:
        raise ConfigError(f"{error}; got RAY_ADDRESS={quote(address)}") from error
    try:
        socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise MemberError(
            f"{who} cannot be loaded: nobody answers at address={quote(address)} "
            f"({error.strerror or error}), where its Ray cluster should be: start it (ray start --head), or correct "
            "the address"
        ) from error


def _check_same(address: str | None, connected: str, name: str) -> None:
    """Refuse an address other than the one that the process is connected to."""
    if address is None or address in WORDS:
        return
    if _resolve(address) != _resolve(connected):
        raise ConfigError(
            f"address of member {quote(name)} must be the Ray cluster that this process is connected to already, "
            f"{connected}; got {quote(address)}: a process has one cluster, leave address out"
        )


def _resolve(address: str) -> tuple[str, int]:
    host, port = split_address(address)
    try:
        return socket.gethostbyname(host), port
    except OSError:
        return host, port
