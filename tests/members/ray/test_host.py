"""An actor in the cluster: what becomes of Ray's own errors, and what Ray is asked for."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from deepen_llm.config import MemberConfig
from deepen_llm.errors import ConfigError, MemberError, MemberTimeoutError, VocabularyError
from deepen_llm.members.ray.host import ActorHost, ActorLostError
from deepen_llm.members.ray.member import RayMember

exceptions = pytest.importorskip("ray.exceptions")


class FakeRay(SimpleNamespace):
    """As much of Ray as a host needs: `answers` holds what `get` gives or raises, by the method that was asked for."""

    def __init__(self, **answers):
        super().__init__(exceptions=exceptions, answers=answers, options=None, given=None, timeouts={}, killed=[])

    def is_initialized(self):
        return True

    def remote(self, cls):
        return SimpleNamespace(options=self._take_options)

    def get(self, method, timeout):
        self.timeouts[method] = timeout
        answer = self.answers.get(method)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def kill(self, actor):
        self.killed.append(actor)

    def _take_options(self, **options):
        self.options = options
        return SimpleNamespace(remote=self._make)

    def _make(self, *given):
        self.given = given
        return Actor()


class Actor:
    def __getattr__(self, method):
        return SimpleNamespace(remote=lambda *arguments: method)


def make_host(ray, **settings):
    config = MemberConfig(model="org/one", device="ray", **settings)
    connection = SimpleNamespace(ray=ray, describe_room=lambda: "the cluster's nodes have 1 CPU", close=lambda: None)
    return ActorHost(config, "one", connection)


def test_an_actor_is_asked_for_as_the_settings_say_and_ray_does_not_restart_it():
    ray = FakeRay()
    make_host(ray, num_cpus=3, num_gpus=0.5, resources={"far": 1}, top=7, dtype="float32").start()
    assert ray.options == {"num_cpus": 3, "num_gpus": 0.5, "resources": {"far": 1}, "max_restarts": 0}
    held, num_told = ray.given
    assert (held.name, held.dtype, held.device, num_told) == ("one", "float32", "cuda", 7)
    assert ray.timeouts == {"find_place": 60, "load": 900}


def test_what_ray_refuses_is_an_error_of_the_settings():
    def refuse(**options):
        raise ValueError("Resource quantities >1 must be whole numbers.")

    ray = FakeRay()
    ray._take_options = refuse
    with pytest.raises(ConfigError, match=r"actor of member 'one' is to be, with 1 CPU, 1.5 GPU: .* whole numbers"):
        make_host(ray, num_gpus=1.5).start()


def test_no_room_is_told_with_what_was_asked_for_and_what_there_is():
    ray = FakeRay(find_place=exceptions.GetTimeoutError())
    host = make_host(ray, num_gpus=2)
    with pytest.raises(MemberError, match=r"'one' asked .* an actor with 1 CPU, 2 GPU .* 60 s; .* have 1 CPU"):
        host.start()
    assert ray.killed and not host.is_running


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (
            exceptions.GetTimeoutError(),
            MemberTimeoutError,
            "member 'one' on node1 did not answer within 900 s",
        ),
        (exceptions.ActorDiedError(), ActorLostError, "the actor of member 'one' on node1 died: The actor died"),
        (exceptions.ActorUnavailableError("no line", None), ActorLostError, "died: The actor .* is unavailable"),
        (exceptions.RayTaskError("load", "trace", VocabularyError("odd")), VocabularyError, "^odd$"),
        (exceptions.RaySystemError(ValueError("no such file")), MemberError, "tells cannot be read: .*no such file"),
        (exceptions.RayTaskError("load", "trace", SystemExit(3)), MemberError, "trace"),
    ],
)
def test_rays_errors_become_own_ones_and_the_members_stay_what_they_are(error, kind, message):
    ray = FakeRay(find_place="node1", load=error)
    host = make_host(ray)
    with pytest.raises(kind, match=message):
        host.start()
    assert ray.killed and not host.is_running


@pytest.mark.parametrize("error", [exceptions.GetTimeoutError(), exceptions.ActorDiedError()])
def test_a_member_that_cannot_be_loaded_is_named(error, monkeypatch):
    from deepen_llm.members.ray import member

    closed = []
    connection = SimpleNamespace(ray=FakeRay(load=error), close=lambda: closed.append(True))
    monkeypatch.setattr(member, "Connection", lambda address, name: connection)
    with pytest.raises(MemberError, match="member 'one' cannot be loaded: the actor of member 'one'"):
        RayMember.load(MemberConfig(model="org/one", device="ray"))
    assert closed
