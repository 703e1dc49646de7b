"""What all endpoints for answers have in common: room, time, a client that is still there, and what is counted."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Coroutine, Sequence
from typing import Any, TypeVar, final

from starlette.requests import Request
from starlette.responses import Response

from deepen_llm.ensemble import Ensemble
from deepen_llm.errors import DeepenError
from deepen_llm.results import Chunk, Generation
from deepen_llm.server.admission import Admission
from deepen_llm.server.answer_parts import Origin
from deepen_llm.server.events import Event, Events
from deepen_llm.server.metrics import Metrics
from deepen_llm.server.models import ServedModels
from deepen_llm.server.presence import while_present
from deepen_llm.server.refusals import explain
from deepen_llm.server.settings import ServerSettings

Result = TypeVar("Result")


@final
class Service:
    """The models of one server, and the rules by which requests get at them. For one event loop."""

    def __init__(self, ensemble: Ensemble, settings: ServerSettings) -> None:
        """Offer an ensemble, which stays its owner's.

        Raises:
            ConfigError: A member has the ensemble's name.
        """
        self.settings = settings
        self.models = ServedModels(ensemble, settings.name)
        self.admission = Admission(ensemble.config.max_batch_size, settings.max_waiting)
        self.metrics = Metrics(self.models, self.admission)

    def origin(self, asked: str | None, prefix: str) -> tuple[Ensemble, Origin]:
        """The model of a name, and who answers for it.

        Raises:
            RefusedError: There is none.
        """
        ensemble = self.models.find(asked)
        vocabulary = ensemble.members[ensemble.member_names.index(ensemble.main_name)].vocabulary
        return ensemble, Origin.make(asked or self.models.name, vocabulary, ensemble.member_names, prefix)

    async def answer(self, request: Request, work: Coroutine[Any, Any, Result], num_answers: int, param: str) -> Result:
        """The result of work over so many sequences, while the client is there.

        Raises:
            RefusedError: No room, no time, or an error of the library; `param` is to blame where the request is.
            ClientGoneError: Nobody waits any more.
        """
        try:
            with self.admission.take(num_answers):
                return await while_present(request, work)
        except DeepenError as error:
            raise explain(error, param) from error
        finally:
            work.close()

    async def stream(self, request: Request, events: AsyncGenerator[Event]) -> Response:
        """A response of events, once there is a first one: until then an error has a status of its own.

        Raises:
            RefusedError: The first one could not be had.
            ClientGoneError: Nobody waits any more.
        """
        try:
            first = await while_present(request, anext(events))
        except BaseException:
            await events.aclose()
            raise
        settings = self.settings
        return Events(events, first, send_timeout_s=settings.send_timeout_s, drain_s=settings.drain_s)

    def note_answers(self, origin: Origin, answers: Sequence[Generation], began_s: float) -> None:
        """Count a request that was answered, by an answer to each prompt; it began at `began_s` of `time.monotonic`."""
        for answer in answers:
            for one in answer.answers:
                self.metrics.note_answer(origin.model, one, origin.member_names)
        self.metrics.note_request(origin.model, time.monotonic() - began_s, [answer.usage for answer in answers])

    def note_stream(self, origin: Origin, last: Sequence[Chunk], num_each: int, began_s: float) -> None:
        """The same for streams, of each of which the last piece is given; `num_each` are answers to one prompt."""
        for chunk in last:
            self.metrics.note_answer(origin.model, chunk, origin.member_names)
        usages = [chunk.usage for chunk in last[::num_each] if chunk.usage]
        self.metrics.note_request(origin.model, time.monotonic() - began_s, usages)
