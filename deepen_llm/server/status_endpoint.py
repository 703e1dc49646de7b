"""What a server tells of itself: `/health`, `/version`, `/v1/models`, `/metrics`."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Response
from openai.types import Model

from deepen_llm import __version__
from deepen_llm.server.answer_parts import write
from deepen_llm.server.metrics import CONTENT_TYPE
from deepen_llm.server.refusals import RefusedError
from deepen_llm.server.service import Service


def status_router(service: Service) -> APIRouter:
    """The endpoints over a service."""
    router = APIRouter(tags=["Status"])
    created = int(time.time())

    def describe(name: str) -> Model:
        ensemble = service.models.find(name)
        main = ensemble.members[ensemble.member_names.index(ensemble.main_name)]
        return Model(
            id=name,
            object="model",
            created=created,
            owned_by="deepen",
            max_model_len=ensemble.context_length,
            members=list(ensemble.member_names),
            main=ensemble.main_name,
            meta={"n_vocab": len(main.vocabulary), "n_params": main.num_parameters},
        )

    @router.get("/health")
    async def health() -> dict[str, str]:
        """Whether requests are answered: status 503 where they are not."""
        if service.admission.is_draining or service.models.ensemble.is_closed:
            raise RefusedError("the server is ending, or its ensemble has", status=503, code="unhealthy")
        return {"status": "ok"}

    @router.get("/version")
    async def version() -> dict[str, str]:
        """The version of this library."""
        return {"version": __version__, "server": "deepen"}

    @router.get("/v1/models", tags=["OpenAI"])
    async def list_models() -> dict[str, Any]:
        """The ensemble, and its members that can be asked alone."""
        return {"object": "list", "data": [describe(name).to_dict() for name in service.models.names]}

    @router.get("/v1/models/{name:path}", tags=["OpenAI"])
    async def retrieve_model(name: str) -> Response:
        """One of them."""
        return Response(write(describe(name)), media_type="application/json")

    @router.get("/metrics")
    async def metrics() -> Response:
        """What Prometheus reads."""
        return Response(await service.metrics.write(), media_type=CONTENT_TYPE)

    return router
