"""`/v1/responses`."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from deepen_llm.ensemble import Ensemble
from deepen_llm.server.answer_parts import Origin, write
from deepen_llm.server.events import Event, merge
from deepen_llm.server.refusals import RefusedError
from deepen_llm.server.responses_answer import ResponseAnswer
from deepen_llm.server.responses_request import ResponsesRequest
from deepen_llm.server.responses_stream import ResponseEvents
from deepen_llm.server.service import Service


def responses_router(service: Service) -> APIRouter:
    """The endpoint over a service."""
    router = APIRouter()

    @router.post("/v1/responses", tags=["OpenAI"])
    async def create_response(request: Request, body: ResponsesRequest) -> Response:
        """Answer an input, of which nothing is kept: every request has the whole conversation."""
        ensemble, origin = service.origin(body.model, "resp")
        plan = await run_in_threadpool(body.plan, ensemble, service.settings)
        answer = ResponseAnswer(body, plan, origin)
        if body.stream:
            return await service.stream(request, _pieces(service, ensemble, answer, origin))
        began_s = time.monotonic()
        work = ensemble.achat(plan.messages, plan.params, chat_template_kwargs=plan.template_kwargs)
        generation = await service.answer(request, work, 1, "input")
        service.note_answers(origin, [generation], began_s)
        return Response(write(answer.whole(generation)), media_type="application/json")

    return router


async def _pieces(
    service: Service, ensemble: Ensemble, answer: ResponseAnswer, origin: Origin
) -> AsyncGenerator[Event]:
    """Every event; closing it frees what runs. What fails before the first one has a status of its own."""
    began_s = time.monotonic()
    plan, events = answer.plan, ResponseEvents(answer)
    pace = service.metrics.pace(origin.model)
    start = partial(ensemble.astream_chat, plan.messages, plan.params, chat_template_kwargs=plan.template_kwargs)
    has_begun = False
    try:
        with service.admission.take(1):
            async with aclosing(merge([start], "input")) as chunks:
                async for _, chunk in chunks:
                    for event in events.begin() if not has_begun else ():
                        yield event
                    has_begun = True
                    pace.note(len(chunk.token_ids))
                    for event in events.push(chunk):
                        yield event
                    if chunk.finish_reason:
                        service.note_stream(origin, [chunk], 1, began_s)
    except RefusedError as error:
        if not has_begun:
            raise
        yield events.fail(error.message, error.code)
