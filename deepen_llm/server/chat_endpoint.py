"""`/v1/chat/completions`."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from deepen_llm.ensemble import Ensemble
from deepen_llm.results import Chunk
from deepen_llm.server.answer_parts import Origin, tell_stream_usage, write
from deepen_llm.server.chat_answer import ChatPieces, usage_piece, whole_chat
from deepen_llm.server.chat_request import ChatPlan, ChatRequest
from deepen_llm.server.events import DONE, Event, merge
from deepen_llm.server.service import Service


def chat_router(service: Service) -> APIRouter:
    """The endpoint over a service."""
    router = APIRouter()

    @router.post("/v1/chat/completions", tags=["OpenAI"])
    async def create_chat_completion(request: Request, body: ChatRequest) -> Response:
        """Reply to messages, which every member reads in its own template."""
        ensemble, origin = service.origin(body.model, "chatcmpl")
        plan = await run_in_threadpool(body.plan, ensemble, service.settings)
        if body.stream:
            return await service.stream(request, _pieces(service, ensemble, plan, origin, tells_usage=body.tells_usage))
        began_s = time.monotonic()
        work = ensemble.achat(plan.messages, plan.params, chat_template_kwargs=plan.template_kwargs)
        answer = await service.answer(request, work, plan.params.n, "messages")
        service.note_answers(origin, [answer], began_s)
        return Response(write(whole_chat(answer, plan, origin)), media_type="application/json")

    return router


async def _pieces(
    service: Service, ensemble: Ensemble, plan: ChatPlan, origin: Origin, *, tells_usage: bool
) -> AsyncGenerator[Event]:
    """Every event; closing it frees what runs."""
    began_s = time.monotonic()
    params = plan.params.split()
    starts = [
        partial(ensemble.astream_chat, plan.messages, one, chat_template_kwargs=plan.template_kwargs) for one in params
    ]
    pieces = [ChatPieces(plan, origin, index) for index in range(len(params))]
    paces = [service.metrics.pace(origin.model) for _ in params]
    last: dict[int, Chunk] = {}
    with service.admission.take(len(params)):
        async with aclosing(merge(starts, "messages")) as chunks:
            async for index, chunk in chunks:
                paces[index].note(len(chunk.token_ids))
                for piece in pieces[index].push(chunk):
                    yield Event(write(piece))
                if chunk.finish_reason:
                    last[index] = chunk
    ended = [last[index] for index in sorted(last)]
    service.note_stream(origin, ended, len(params), began_s)
    if tells_usage:
        yield Event(write(usage_piece(tell_stream_usage(ended, len(params)), origin)))
    yield DONE
