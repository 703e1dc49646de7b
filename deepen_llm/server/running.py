"""A server from its start to its end: it takes a port, answers, and lets what runs come to its end."""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import final

import uvicorn

from deepen_llm.ensemble import Ensemble
from deepen_llm.errors import ConfigError, quote
from deepen_llm.server.app import build_app
from deepen_llm.server.service import Service
from deepen_llm.server.settings import ServerSettings

logger = logging.getLogger(__name__)

KEEP_ALIVE_S = 75
"""How long a connection may be idle: longer than clients keep theirs, so that none is closed under a request."""
BACKLOG = 2048


@final
class Server(uvicorn.Server):
    """Takes on nothing new once it is asked to stop (SIGTERM, Ctrl-C); asked twice, it stops at once."""

    service: Service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end."""
        self.service.admission.is_draining = True
        super().handle_exit(sig, frame)


def serve(ensemble: Ensemble, settings: ServerSettings, on_start: Callable[[str], None] | None = None) -> None:
    """Answer for an ensemble until a signal comes; the ensemble stays open.

    Args:
        ensemble: Who answers.
        settings: Where, and for whom.
        on_start: Told the server's address once it can be asked.

    Raises:
        ConfigError: A member has the ensemble's name, the port cannot be had, or several replicas are asked for.
    """
    if settings.replicas > 1:
        raise ConfigError(
            f"a loaded ensemble is one replica; got replicas={settings.replicas}: use `replicas.serve_replicas`, to "
            "which the ensemble's source is given"
        )
    app = build_app(ensemble, settings)
    listener = take_port(settings.host, settings.port)
    warn_of_strangers(settings)
    if on_start is not None:
        on_start(address_of(listener))
    server = Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=math.ceil(settings.drain_s),
        )
    )
    server.service = app.state.service
    with listener, _ending_quietly():
        server.run(sockets=[listener])


def warn_of_strangers(settings: ServerSettings) -> None:
    """Say so where the server lets in everybody who reaches it from other machines."""
    if not settings.is_loopback and not settings.api_keys:
        logger.warning(
            "everybody who reaches %s may ask this server: give API keys, or listen at 127.0.0.1", settings.host
        )


def take_port(host: str, port: int) -> socket.socket:
    """A socket that listens there.

    Raises:
        ConfigError: It cannot be had: somebody else has it, or there is no such address.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio sends what is there at once; else a body waits 40 ms for its head's receipt.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
        return listener
    except OSError as error:
        listener.close()
        reason = error.strerror or str(error)
        raise ConfigError(
            f"the server must be able to listen at port {port} of {quote(host)}: {reason}: give another port (0 takes "
            "a free one) or host"
        ) from error


def address_of(listener: socket.socket) -> str:
    """What to type into a client."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextmanager
def _ending_quietly() -> Iterator[None]:
    """Uvicorn sends the signal that ended it again, to whoever had it before: here nobody, for it did its work."""
    before = {sign: signal.signal(sign, lambda *_: None) for sign in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)
