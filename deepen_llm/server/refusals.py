"""What a client is told when a request cannot be answered, in OpenAI's form."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, final

from starlette.responses import Response

from deepen_llm.errors import (
    ClosedError,
    ConfigError,
    ContextLengthError,
    DeepenError,
    MemberTimeoutError,
    PromptError,
    VocabularyError,
    shorten,
)


@final
class RefusedError(Exception):
    """A request that is not answered: the HTTP status, and what goes into the body."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Say it.

        Args:
            message: What must hold, what came, what to do.
            status: The HTTP status.
            param: The field of the request that is meant.
            code: A word by which programs know the case.
            headers: Further headers of the response.
        """
        super().__init__(message)
        self.message, self.status, self.param, self.code = shorten(message), status, param, code
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        """The body of the response."""
        kinds = {401: "authentication_error", 429: "rate_limit_error", 504: "timeout_error"}
        kind = kinds.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    @property
    def response(self) -> Response:
        """The response. What clients sent may be quoted in it, half characters too: it is written in ASCII."""
        return Response(json.dumps(self.body), self.status, self.headers, media_type="application/json")


@contextmanager
def naming(param: str | None, names: Mapping[str, str] | None = None) -> Iterator[None]:
    """Refuse by this field what the library refuses within.

    Args:
        param: The field.
        names: For settings that have other names in requests, those.

    Raises:
        RefusedError: In place of an error of the library.
    """
    try:
        yield
    except DeepenError as error:
        raise explain(error, param, names) from error


def explain(error: DeepenError, param: str | None = None, names: Mapping[str, str] | None = None) -> RefusedError:
    """What the library raised, as clients are told: its own words, and whose fault it was."""
    if isinstance(error, ContextLengthError):
        return RefusedError(str(error), param=param, code="context_length_exceeded")
    if isinstance(error, ConfigError):
        return _explain_setting(error, param, names or {})
    if isinstance(error, (PromptError, VocabularyError)):
        return RefusedError(str(error), param=param)
    if isinstance(error, MemberTimeoutError):
        return RefusedError(str(error), status=504, code="timeout")
    if isinstance(error, ClosedError):
        return RefusedError(str(error), status=503, code="closed", headers={"Retry-After": "5"})
    return RefusedError(str(error), status=500, code=type(error).__name__)


def _explain_setting(error: ConfigError, param: str | None, names: Mapping[str, str]) -> RefusedError:
    """A setting that cannot be used, by the name that it has in the request."""
    if not error.problems:
        return RefusedError(str(error), param=param)
    told = [(names.get(name, name), text) for name, text in error.problems]
    message = "; ".join(f"{name}: {text}" if name else text for name, text in told)
    return RefusedError(message, param=told[0][0] or param)
