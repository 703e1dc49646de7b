"""The connection to a server: JSON up, bytes down, with an own error for whatever can go wrong in between."""

from __future__ import annotations

import json
import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import NamedTuple, NoReturn, final
from urllib.parse import urlsplit

import urllib3
from pydantic import SecretStr
from pydantic_core import to_json
from urllib3.exceptions import (
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    SSLError,
)
from urllib3.exceptions import (
    TimeoutError as HTTPTimeoutError,
)

from deepen_llm.errors import MemberError, MemberTimeoutError, quote

logger = logging.getLogger(__name__)

MAX_AT_ONCE = 32
"""The most requests that are under way together; further ones wait for one of them."""
PAUSE_S = 0.5
"""How long a server that failed is left alone before it is asked once more."""
PIECE_BYTES = 1 << 16
OK, UNAUTHORIZED, FORBIDDEN, NOT_FOUND, TOO_MANY = 200, 401, 403, 404, 429
REDIRECTS = range(300, 400)
RETRIED = {TOO_MANY, 502, 503, 504}
"""Statuses of a server that has not computed anything."""
MAX_EXCERPT = 300


class StatusError(MemberError):
    """A server answered with another status than 200, and `status` says which."""

    status: int = 0


class Answer(NamedTuple):
    """What came back."""

    status: int
    body: bytes
    retry_after_s: float | None = None
    location: str | None = None


@final
class Client:
    """Asks one server, in threads of its own, over connections that are kept.

    Every question can be asked again without harm: after a connection that was cut, or a server that says that it is
    busy, it is asked once more, as far as the time allows. Redirects are not followed: the key is for this server.
    """

    def __init__(self, name: str, address: str, *, key: SecretStr | None = None, timeout_s: float = 60.0) -> None:
        """Nothing is sent yet.

        Args:
            name: What errors call the member.
            address: Of the server, `http://host:port` with or without a path.
            key: Sent as a bearer token.
            timeout_s: The most seconds from a question to the end of its answer.
        """
        self.address, self.timeout_s = address, timeout_s
        self._name, self._key = name, key
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if key is not None:
            self._headers["Authorization"] = f"Bearer {key.get_secret_value()}"
        self._pool = urllib3.PoolManager(num_pools=1, maxsize=MAX_AT_ONCE, retries=False)
        self._workers = ThreadPoolExecutor(MAX_AT_ONCE, thread_name_prefix="deepen-server")

    def get(self, path: str, max_bytes: int = 10_000_000) -> bytes:
        """What the server says at a path; raises what `post` raises."""
        return self._ask("GET", path, None, max_bytes, time.monotonic() + self.timeout_s)

    def post(self, path: str, body: object, max_bytes: int = 10_000_000) -> bytes:
        """What the server answers to a question.

        Raises:
            StatusError: It answered with an error.
            MemberError: It could not be reached, broke off, sent a redirect or more than `max_bytes`.
            MemberTimeoutError: It took longer than `timeout_s`.
        """
        return self._ask("POST", path, body, max_bytes, time.monotonic() + self.timeout_s)

    def start(self, path: str, body: object, max_bytes: int) -> Future[bytes]:
        """`post`, at the same time as others; the future has the answer, or the error."""
        return self._workers.submit(self._ask, "POST", path, body, max_bytes, time.monotonic() + self.timeout_s)

    def close(self) -> None:
        """Let go of all connections. What is under way ends by itself."""
        self._workers.shutdown(wait=False, cancel_futures=True)
        self._pool.clear()

    def timeout_error(self) -> MemberTimeoutError:
        """What to say of a server that took too long."""
        return MemberTimeoutError(
            f"{self.where} did not answer within {self.timeout_s:g} s: look whether it is overloaded, or allow more "
            "time with timeout_s"
        )

    @property
    def where(self) -> str:
        """What errors call the server."""
        return f"the server of member {quote(self._name)} at {self.address}"

    def _ask(self, method: str, path: str, body: object, max_bytes: int, deadline: float) -> bytes:
        """Ask, and where that may help ask once more; where a server says how long to wait, until the deadline."""
        payload = None if body is None else to_json(body)
        has_failed = False
        while True:
            pause, failure = PAUSE_S, ""
            try:
                answer = self._send(method, path, payload, max_bytes, deadline)
            except (NewConnectionError, ProtocolError) as error:
                if has_failed or isinstance(error, NameResolutionError) or time.monotonic() + pause >= deadline:
                    self._explain(error)
                failure = type(error).__name__
            except HTTPError as error:
                self._explain(error)
            else:
                if answer.status == OK:
                    return answer.body
                pause = max(answer.retry_after_s or 0.0, PAUSE_S)
                is_told = answer.status == TOO_MANY and answer.retry_after_s is not None
                is_last = (has_failed and not is_told) or time.monotonic() + pause >= deadline
                if answer.status not in RETRIED or is_last:
                    self._refuse(path, answer)
                failure = f"status {answer.status}"
            logger.warning("%s failed (%s) and is asked again in %.3g s", self.where, failure, pause)
            has_failed = True
            time.sleep(pause)

    def _send(self, method: str, path: str, payload: bytes | None, max_bytes: int, deadline: float) -> Answer:
        """One request.

        Raises:
            urllib3.exceptions.HTTPError: No answer came.
            MemberError: The answer is too long.
            MemberTimeoutError: It took too long to come.
        """
        left = deadline - time.monotonic()
        if left <= 0:
            raise self.timeout_error()
        response = self._pool.request(
            method,
            self.address + path,
            body=payload,
            headers=self._headers,
            timeout=urllib3.Timeout(connect=left, read=left),
            redirect=False,
            preload_content=False,
            decode_content=False,
        )
        body = bytearray()
        try:
            while piece := response.read1(PIECE_BYTES):
                body += piece
                if len(body) > max_bytes:
                    raise MemberError(
                        f"{self.where} must answer with {max_bytes:,} bytes at most; it sends more: look whether the "
                        "address is that of a server of language models"
                    )
                if time.monotonic() > deadline:
                    raise self.timeout_error()
        except BaseException:
            response.close()
            raise
        response.release_conn()
        headers = response.headers
        retry_after_s = _read_seconds(headers.get("Retry-After"))
        return Answer(response.status, bytes(body), retry_after_s, headers.get("Location"))

    def _explain(self, error: HTTPError) -> NoReturn:
        """Raise an own error for one of urllib3's."""
        if isinstance(error, NameResolutionError):
            host = urlsplit(self.address).hostname
            problem = f"no address is known for the name {quote(host)}: correct it, or look at the network"
        elif isinstance(error, NewConnectionError):
            problem = "nobody listens there: start the server, or correct the address"
        elif isinstance(error, HTTPTimeoutError):
            raise self.timeout_error() from error
        elif isinstance(error, SSLError):
            problem = (
                f"the connection cannot be made safe ({_shorten(str(error))}): correct http:// or https://, or name "
                "the file of the authority that signed its certificate in the environment variable SSL_CERT_FILE"
            )
        elif isinstance(error, ProtocolError):
            problem = f"the connection broke off ({_shorten(str(error))}), twice: look at the server's log"
        else:
            problem = f"{type(error).__name__}: {_shorten(str(error))}"
        raise MemberError(f"{self.where} cannot be reached: {problem}") from error

    def _refuse(self, path: str, answer: Answer) -> NoReturn:
        """Raise an own error for another status than 200."""
        status, said = answer.status, self._excerpt(answer.body)
        if status in REDIRECTS:
            hint = f"redirects are not followed: give the address that it names ({_origin(answer.location)})"
        elif status in (UNAUTHORIZED, FORBIDDEN):
            lacks = "name the environment variable that holds its key with api_key_env"
            hint = f"it refuses the key that was sent: {lacks} anew" if self._key else f"it wants a key: {lacks}"
        elif status == NOT_FOUND:
            hint = "it does not know this: look whether the address is that of the server itself"
        elif status == TOO_MANY:
            hint = "it has too much to do: ask it less at once (max_batch_size), or later"
        else:
            hint = "look at its log"
        error = StatusError(f"{self.where} answered {path} with status {status}{said}: {hint}")
        error.status = status
        raise error

    def _excerpt(self, body: bytes) -> str:
        """The beginning of what a server says of an error, without the key, which some of them repeat."""
        text = body[: 4 * MAX_EXCERPT].decode("utf-8", "replace")
        with suppress(ValueError, TypeError, KeyError, RecursionError):  # what has another form is told as it came
            found = json.loads(body)["error"]
            text = str(found["message"] if isinstance(found, dict) else found)
        if self._key is not None:
            text = text.replace(self._key.get_secret_value(), "***")
        return f" ({_shorten(text)})" if text.strip() else ""


def _shorten(text: str) -> str:
    """One line of some length."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_EXCERPT else line[:MAX_EXCERPT] + "..."


def _origin(location: str | None) -> str:
    """Where a redirect leads to, as far as it can be repeated: a path or a query may hold secrets."""
    try:
        parts = urlsplit(location or "")
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "it names none"
    return f"{parts.scheme}://{parts.hostname}{port}" if parts.hostname else "a path of its own"


def _read_seconds(value: str | None) -> float | None:
    """A `Retry-After` in seconds; the other form, a date, counts as not given."""
    return float(value) if value is not None and value.isascii() and value.isdigit() and len(value) < 10 else None
