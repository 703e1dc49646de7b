"""The page's two addresses: the page itself, and what it asks."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter
from fastapi.params import Depends
from fastapi.responses import HTMLResponse
from sse_starlette import EventSourceResponse, ServerSentEvent

from deepen_llm.ensemble import Ensemble
from deepen_llm.server.page.document import POLICY, render_document
from deepen_llm.server.page.question import PageQuestion, answer_question

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def make_page_router(ensemble: Ensemble, *, guards: Sequence[Depends] = ()) -> APIRouter:
    """The routes of the page.

    Args:
        ensemble: Who answers.
        guards: What a question must pass before it is answered, such as a key; the page itself, which holds no
            secret, is open.
    """
    router = APIRouter(include_in_schema=False)
    document = render_document(ensemble)

    @router.get("/", response_class=HTMLResponse)
    async def show() -> HTMLResponse:
        return HTMLResponse(document, headers=HEADERS)

    @router.post("/page/answers", dependencies=list(guards))
    async def answer(question: PageQuestion) -> EventSourceResponse:
        return EventSourceResponse(_send(ensemble, question))

    return router


async def _send(ensemble: Ensemble, question: PageQuestion) -> AsyncIterator[ServerSentEvent]:
    async with aclosing(answer_question(ensemble, question)) as events:  # type: ignore[type-var]
        async for kind, content in events:
            yield ServerSentEvent(event=kind, data=_write(content))


def _write(content: dict[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=True, allow_nan=False)
