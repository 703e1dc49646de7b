"""A host whose actor lives in this process, and dies when it is told to: a member in an actor, without Ray."""

from __future__ import annotations

import pickle

from deepen_llm.config import MemberConfig
from deepen_llm.members.ray.actor import MemberActor
from deepen_llm.members.ray.host import ActorLateError, ActorLostError
from deepen_llm.members.ray.member import RayMember

ALL = 100_000
"""More tokens than any vocabulary here has."""


class HeldConfig:
    """Settings whose `load` gives a member that is made in the test."""

    def __init__(self, make):
        self.load = make


class NoConnection:
    def close(self):
        self.is_closed = True


class InProcessHost:
    """Answers when it is waited for, in the order in which it was asked, as an actor does.

    `fails` holds what goes wrong: `{number of the call to `run`: an error}`; an `ActorLostError` ends the actor.
    """

    def __init__(self, make, top=ALL):
        self.make, self.top = make, top
        self.actor = None
        self.num_starts = self.num_runs = 0
        self.fails = {}
        self.sent = []
        self.bytes_told = []
        self.queue = []

    @property
    def is_running(self):
        return self.actor is not None

    def start(self):
        self.num_starts += 1
        self.actor, self.queue = MemberActor(HeldConfig(self.make), self.top), []
        self.actor.load()

    def send(self, method, *arguments):
        assert self.is_running
        self.sent.append((method, arguments))
        call = [self.actor, method, pickle.dumps(arguments), None]
        self.queue.append(call)
        return call

    def wait(self, call, timeout_s):
        assert timeout_s > 0
        while call[3] is None:
            if call[0] is not self.actor:
                raise ActorLostError("the actor died")
            self.answer(self.queue.pop(0))
        kind, value = call[3]
        if kind == "error":
            raise value
        return pickle.loads(value)

    def answer(self, call):
        actor, method, arguments, _ = call
        if method == "run":
            self.num_runs += 1
            if error := self.fails.pop(self.num_runs, None):
                if isinstance(error, (ActorLateError, ActorLostError)):
                    self.actor = object()  # gone, and nobody knows yet
                call[3] = ("error", error)
                return
        try:
            call[3] = ("value", pickle.dumps(getattr(actor, method)(*pickle.loads(arguments))))
        except Exception as error:
            call[3] = ("error", error)
        if method == "run" and call[3][0] == "value":
            self.bytes_told.append(len(call[3][1]))

    def ask(self, method, *arguments, timeout_s):
        return self.wait(self.send(method, *arguments), timeout_s)

    def stop(self):
        self.actor = None


def make_member(make, top=ALL, **settings):
    """A member in an actor of this process, and its host; `make` makes the member that the actor holds."""
    host = InProcessHost(make, top)
    host.start()
    config = MemberConfig(model="held", device="ray", top=top, **settings)
    return RayMember(config, "held", NoConnection(), host), host
