"""The application: an ensemble behind OpenAI's endpoints, as any ASGI server can run it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from deepen_llm import __version__
from deepen_llm.ensemble import Ensemble
from deepen_llm.errors import quote
from deepen_llm.server.chat_endpoint import chat_router
from deepen_llm.server.completion_endpoint import completion_router
from deepen_llm.server.gate import Gate
from deepen_llm.server.page import page_router
from deepen_llm.server.presence import ClientGoneError
from deepen_llm.server.refusals import RefusedError
from deepen_llm.server.responses_endpoint import responses_router
from deepen_llm.server.service import Service
from deepen_llm.server.settings import ServerSettings
from deepen_llm.server.status_endpoint import status_router
from deepen_llm.server.tokens_endpoint import tokens_router

CLIENT_GONE = 499
"""The status that logs have for a client that did not wait; nobody gets it."""
MAX_PROBLEMS = 5
"""The most problems of one body that are told."""


def build_app(ensemble: Ensemble, settings: ServerSettings | None = None) -> FastAPI:
    """An application that answers for an ensemble, which stays open when it ends. `app.state.service` is its service.

    Raises:
        ConfigError: A member has the ensemble's name.
    """
    settings = settings or ServerSettings()
    service = Service(ensemble, settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.models.close()

    app = FastAPI(title="deepen", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.service = service
    routers = (chat_router, completion_router, responses_router, tokens_router, status_router, page_router)
    for make in routers:
        app.include_router(make(service))
    _tell_errors(app, service)
    app.add_middleware(Gate, settings=settings, metrics=service.metrics)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=list(settings.cors_origins), allow_methods=["*"], allow_headers=["*"]
        )
    return app


def _tell_errors(app: FastAPI, service: Service) -> None:
    """Have every error told in OpenAI's form."""

    @app.exception_handler(RefusedError)
    async def refuse(_: Request, error: RefusedError) -> Response:
        service.metrics.note_refusal(error.status)
        return error.response

    @app.exception_handler(RequestValidationError)
    async def refuse_body(request: Request, error: RequestValidationError) -> Response:
        return await refuse(request, _explain_body(error.errors()))

    @app.exception_handler(HTTPException)
    async def refuse_route(request: Request, error: HTTPException) -> Response:
        message = f"{request.method} {request.url.path}: {error.detail}: GET /openapi.json tells what there is"
        refused = RefusedError(message, status=error.status_code, headers=error.headers)
        return await refuse(request, refused)

    @app.exception_handler(ClientGoneError)
    async def drop(_: Request, __: ClientGoneError) -> Response:
        return Response(status_code=CLIENT_GONE)

    @app.exception_handler(Exception)
    async def fail(request: Request, error: Exception) -> Response:
        message = f"the server failed by {type(error).__name__}, which its log tells about: report it"
        return await refuse(request, RefusedError(message, status=500, code="internal_error"))


def _explain_body(problems: Any) -> RefusedError:
    """What is wrong with a body: which field, what must hold, what came."""
    first = problems[0]
    if first["type"] == "json_invalid":
        reason = first.get("ctx", {}).get("error", first["msg"])
        return RefusedError(f"the body must be JSON; at character {first['loc'][-1]}: {reason}", code="invalid_json")
    if isinstance(first.get("input"), bytes):
        return RefusedError("the body must be JSON: send `Content-Type: application/json`", code="invalid_json")
    told = []
    for problem in problems[:MAX_PROBLEMS]:
        where = ".".join(str(part) for part in problem["loc"] if part != "body")
        told.append(f"{where or 'the body'}: {problem['msg']}; got {quote(problem.get('input'))}")
    field = str(first["loc"][1]) if len(first["loc"]) > 1 else None
    return RefusedError("; ".join(told), param=field, code="invalid_body")
