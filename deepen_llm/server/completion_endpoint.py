"""`/v1/completions`."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from deepen_llm.ensemble import Ensemble
from deepen_llm.requests.streams import AsyncStream
from deepen_llm.results import Chunk, Generation, TokenLogprob
from deepen_llm.server.answer_parts import Origin, tell_stream_usage, write
from deepen_llm.server.completion_answer import CompletionAnswer, Echo
from deepen_llm.server.completion_request import CompletionPlan, CompletionRequest
from deepen_llm.server.events import DONE, Event, merge
from deepen_llm.server.refusals import naming
from deepen_llm.server.service import Service


def completion_router(service: Service) -> APIRouter:
    """The endpoint over a service."""
    router = APIRouter()

    @router.post("/v1/completions", tags=["OpenAI"])
    async def create_completion(request: Request, body: CompletionRequest) -> Response:
        """Go on from a prompt, or from several."""
        ensemble, origin = service.origin(body.model, "cmpl")
        plan = await run_in_threadpool(body.plan, ensemble, service.settings)
        if body.stream:
            return await service.stream(request, _pieces(service, ensemble, plan, origin, tells_usage=body.tells_usage))
        began_s = time.monotonic()
        work = _answer(ensemble, plan, origin)
        answers, echoes = await service.answer(request, work, plan.num_answers, "prompt")
        service.note_answers(origin, [answer for answer in answers if answer is not None], began_s)
        return Response(write(CompletionAnswer(plan, origin).whole(answers, echoes)), media_type="application/json")

    return router


async def _answer(
    ensemble: Ensemble, plan: CompletionPlan, origin: Origin
) -> tuple[list[Generation | None], list[Echo | None]]:
    """The answer to each prompt, and the prompts as far as they are given back."""
    echoes = await _read(ensemble, plan, origin)
    if plan.params is None:
        return [None] * len(plan.prompts), echoes
    return list(await ensemble.agenerate(plan.prompts, plan.params)), echoes


async def _read(ensemble: Ensemble, plan: CompletionPlan, origin: Origin) -> list[Echo | None]:
    """The prompts that are given back, with what the ensemble says of their tokens where that is asked for."""
    if not plan.echoes:
        return [None] * len(plan.prompts)
    read: list[tuple[TokenLogprob, ...]] = [()] * len(plan.prompts)
    if plan.num_top is not None:
        read = await ensemble.aprompt_logprobs(plan.prompts, plan.num_top, timeout_s=plan.timeout_s)
    told = list(zip(plan.prompts, read, strict=True))
    return await run_in_threadpool(lambda: [Echo.make(prompt, logprobs, origin) for prompt, logprobs in told])


async def _pieces(
    service: Service, ensemble: Ensemble, plan: CompletionPlan, origin: Origin, *, tells_usage: bool
) -> AsyncGenerator[Event]:
    """Every event; closing it frees what runs."""
    began_s = time.monotonic()
    answer = CompletionAnswer(plan, origin)
    last: dict[int, Chunk] = {}
    num_each = 1 if plan.params is None else plan.params.n
    with service.admission.take(plan.num_answers):
        starts = _starts(ensemble, plan)
        paces = [service.metrics.pace(origin.model) for _ in starts]
        with naming("prompt"):
            echoes = await _read(ensemble, plan, origin)
        for index, echo in enumerate(echoes):
            for place in range(index * num_each, (index + 1) * num_each) if echo else ():
                yield Event(write(answer.completion([answer.choice(place, None, echo)])))
        async with aclosing(merge(starts, "prompt")) as chunks:
            async for index, chunk in chunks:
                paces[index].note(len(chunk.token_ids))
                yield Event(write(answer.completion([answer.choice(index, chunk)])))
                if chunk.finish_reason:
                    last[index] = chunk
    ended = [last[index] for index in sorted(last)]
    service.note_stream(origin, ended, num_each, began_s)
    if tells_usage:
        yield Event(write(answer.completion([], usage=tell_stream_usage(ended, num_each))))
    yield DONE


def _starts(ensemble: Ensemble, plan: CompletionPlan) -> list[Callable[[], AsyncStream]]:
    """What begins the stream of each answer, those to one prompt beside each other."""
    params = [] if plan.params is None else plan.params.split()
    return [partial(ensemble.astream, prompt, one) for prompt in plan.prompts for one in params]
