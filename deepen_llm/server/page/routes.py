"""The page's addresses: the page itself, whom it asks, and what it asks."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from deepen_llm.config import SamplingParams
from deepen_llm.results import Chunk
from deepen_llm.server.events import Event
from deepen_llm.server.page.document import DOCUMENT, POLICY
from deepen_llm.server.page.members import describe_members
from deepen_llm.server.page.question import PageQuestion, answer_question
from deepen_llm.server.service import Service

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def page_router(service: Service) -> APIRouter:
    """The page over a service. The document itself tells of nothing, so that it may be open to everybody."""
    router = APIRouter(include_in_schema=False)
    ensemble = service.models.ensemble

    @router.get("/")
    async def show() -> Response:
        return HTMLResponse(DOCUMENT, headers=HEADERS)

    @router.get("/page/members")
    async def show_members() -> dict[str, object]:
        return describe_members(ensemble)

    @router.post("/page/answers")
    async def answer(request: Request, question: PageQuestion) -> Response:
        params = question.make_params(service.settings.max_tokens, service.settings.timeout_s)
        return await service.stream(request, _pieces(service, question, params))

    return router


async def _pieces(service: Service, question: PageQuestion, params: SamplingParams) -> AsyncGenerator[Event]:
    """Every event; closing it frees what runs."""
    began_s = time.monotonic()
    ensemble, origin = service.origin(None, "page")
    pace, last = service.metrics.pace(origin.model), []

    def note(chunk: Chunk) -> None:
        pace.note(len(chunk.token_ids))
        last.extend([chunk] if chunk.finish_reason else [])

    with service.admission.take(1):
        async with aclosing(answer_question(ensemble, question, params, note)) as events:
            async for event in events:
                yield Event(json.dumps(event, allow_nan=False))
    service.note_stream(origin, last, 1, began_s)
