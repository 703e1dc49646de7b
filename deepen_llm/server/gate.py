"""What a request must have before anything looks at it: a key, a host's name, a size."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from typing import final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deepen_llm.server.metrics import Metrics
from deepen_llm.server.presence import ClientGoneError
from deepen_llm.server.refusals import RefusedError
from deepen_llm.server.settings import ServerSettings

OPEN_PATHS = ("/", "/health")
"""What may be asked without a key: nothing that tells of models or of what people ask them."""


@final
class Gate:
    """An ASGI application around another one, which sees only requests that may pass."""

    def __init__(self, app: ASGIApp, settings: ServerSettings, metrics: Metrics) -> None:
        """Keep digests of the keys, which are all of one length. Who may not pass is counted by `metrics`."""
        self._app, self._settings, self._metrics = app, settings, metrics
        self._digests = [_digest(key.get_secret_value()) for key in settings.api_keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            self._check_host(headers)
            self._check_key(headers, scope["path"], scope["method"])
            body = await self._read_body(headers, receive)
        except RefusedError as error:
            self._metrics.note_refusal(error.status)
            await error.response(scope, receive, send)
            return
        except ClientGoneError:
            return
        await self._app(scope, _replay(body, receive), send)

    def _check_host(self, headers: Headers) -> None:
        names = self._settings.host_names
        if "*" in names:
            return
        host = headers.get("host", "")
        try:
            name = urlsplit(f"//{host}").hostname
        except ValueError:
            name = None
        if name not in names:
            raise RefusedError(
                f"this server is asked by the names {', '.join(names)}; got {host[:100]!r}: set allowed_hosts",
                status=403,
                code="host_not_allowed",
            )

    def _check_key(self, headers: Headers, path: str, method: str) -> None:
        """Compare with every key, so that the time tells nothing."""
        if not self._digests or path in OPEN_PATHS or method == "OPTIONS":
            return
        scheme, _, key = headers.get("authorization", "").partition(" ")
        given = _digest(key.strip() if scheme.lower() == "bearer" else "")
        if not sum([hmac.compare_digest(given, digest) for digest in self._digests]):
            raise RefusedError(
                "a request must bring an API key of this server, `Authorization: Bearer ...`; "
                + ("this one's is not known" if key else "this one has none"),
                status=401,
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )

    async def _read_body(self, headers: Headers, receive: Receive) -> bytes:
        """All of the body, which is small enough and comes in time.

        Raises:
            RefusedError: It is not.
            ClientGoneError: The client went away before it had sent it.
        """
        most = self._settings.max_body_bytes
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > most:
            raise _too_large(most)
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._settings.body_timeout_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGoneError
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > most:
                        raise _too_large(most)
                    if not message.get("more_body"):
                        return b"".join(parts)
        except TimeoutError:
            raise RefusedError(
                f"a request must have arrived within {self._settings.body_timeout_s:g} s: send it whole",
                status=408,
                code="request_timeout",
                headers={"Connection": "close"},
            ) from None


def _replay(body: bytes, receive: Receive) -> Receive:
    """What gives the body once, and then what else comes."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return first.pop() if first else await receive()

    return replay


def _too_large(most: int) -> RefusedError:
    return RefusedError(
        f"a request may have {most} bytes at most: send less",
        status=413,
        code="request_too_large",
        headers={"Connection": "close"},
    )


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
