"""What is asked of an actor and answered, whichever actor it is: one that died is followed by another."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from typing import Any, final

from deepen_llm.errors import MemberError
from deepen_llm.members.ray.host import ActorHost, ActorLateError, ActorLostError
from deepen_llm.members.ray.journal import Entry, Journal
from deepen_llm.members.ray.messages import Told
from deepen_llm.members.ray.settings import RayConfig

logger = logging.getLogger(__name__)


@final
class Dialogue:
    """Asks an actor for passes, several at a time, and takes the answers in the order in which it asked."""

    def __init__(self, config: RayConfig, name: str, host: ActorHost, journal: Journal) -> None:
        """`host` runs an actor that has its model."""
        self._config, self._name = config, name
        self._host, self._journal = host, journal
        self._given_up: MemberError | None = None

    def send(self, entry: Entry) -> None:
        """Ask for a pass. Where no actor runs, that is seen to when the answer is due."""
        if self._host.is_running:
            entry.reference = self._host.send("run", entry.asked)

    def send_changes(self) -> None:
        """Have done what waits for the next pass, without one, and without an answer."""
        changes = self._journal.take_changes()
        if changes and self._host.is_running:
            self._host.send("change", changes)

    def receive(self, entry: Entry) -> Told:
        """The answer to a pass; those before it are taken first.

        Raises:
            Exception: What the member raised, or `MemberError` where the actor died and no other one answers.
            MemberTimeoutError: The pass takes too long. Its actor is ended.
        """
        while entry.told is None:
            if entry.error is not None:
                raise entry.error
            self._settle(self._journal.unsettled[0])
        return entry.told

    def ask(self, method: str, *arguments: object) -> Any:
        """What a method of the actor gives.

        Raises:
            MemberError: The actor died and no other one answers.
            MemberTimeoutError: It takes too long. The actor is ended.
        """
        return self._persist(lambda: self._host.send(method, *arguments))

    def _settle(self, entry: Entry) -> None:
        try:
            self._journal.settle(entry, self._persist(lambda: entry.reference))
        except Exception as error:  # of this pass: whoever takes its result is told
            self._journal.fail(entry, error)

    def _persist(self, send: Callable[[], Any]) -> Any:
        """What `send` asks for, of another actor where one died."""
        for attempt in itertools.count():
            try:
                if not self._host.is_running:
                    self._start_anew()
                return self._host.wait(send(), self._config.timeout_s)
            except ActorLostError as lost:
                self._end_actor()
                self._check_goes_on(lost, attempt)
            except ActorLateError as late:
                self._end_actor()
                self._check_goes_on(late, self._config.max_restarts)
        raise AssertionError("unreachable")

    def _check_goes_on(self, error: MemberError, num_restarts: int) -> None:
        """Raise what is to be said where no other actor is started for the same thing."""
        if self._config.on_member_failure == "fail":
            self._journal.forget()
            self._given_up = MemberError(
                f"{error}; with on_member_failure='fail' it stays so: load {self._name!r} again"
            )
            raise self._given_up from error
        if isinstance(error, ActorLateError):
            raise error
        if num_restarts >= self._config.max_restarts:
            others = "" if not num_restarts else f", and so did {num_restarts} more over the same"
            raise MemberError(f"{error}{others} (max_restarts={self._config.max_restarts})") from error
        logger.warning("%s; another one is started and fed anew", error)

    def _start_anew(self) -> None:
        """Another actor, fed what the one before had been fed, and asked what that one did not answer."""
        if self._given_up is not None:
            raise self._given_up.with_traceback(None)  # raised again and again, it would keep the frames of each time
        self._host.start()
        try:
            rows, sources = self._journal.begin_anew(), self._journal.sources
            self._host.ask("restore", rows, sources, timeout_s=self._config.load_timeout_s)
        except BaseException:
            self._end_actor()
            raise
        for entry in self._journal.unsettled:
            self.send(entry)

    def _end_actor(self) -> None:
        self._host.stop()
        for entry in self._journal.unsettled:
            entry.reference = None
