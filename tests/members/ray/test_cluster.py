"""The connection to a cluster: what is said where there is none, or another one."""

from __future__ import annotations

import socket
import sys
from types import SimpleNamespace

import pytest

from deepen_llm.config import MemberConfig
from deepen_llm.errors import ConfigError, MemberError, MissingDependencyError
from deepen_llm.members.ray.cluster import Connection, show_resources

PORT = 6379


class FakeRay(SimpleNamespace):
    """As much of Ray as a connection needs."""

    def __init__(self, is_connected=False):
        super().__init__(is_connected=is_connected, inits=[], error=None)

    def is_initialized(self):
        return self.is_connected

    def init(self, **arguments):
        if self.error is not None:
            raise self.error
        self.inits.append(arguments)
        self.is_connected = True

    def shutdown(self):
        self.is_connected = False

    def get_runtime_context(self):
        return SimpleNamespace(gcs_address=f"127.0.0.1:{PORT}")


@pytest.fixture
def ray(monkeypatch):
    fake = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return fake


@pytest.fixture
def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def test_without_ray_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"member 'one' .*pip install 'deepen-llm\[ray\]'"):
        MemberConfig(model="org/one", device="ray").load()


def test_the_last_member_ends_the_connection_that_the_first_one_made(ray):
    first, second = Connection(None, "one"), Connection(None, "two")
    assert len(ray.inits) == 1 and ray.inits[0]["include_dashboard"] is False
    first.close()
    first.close()
    assert ray.is_connected
    second.close()
    assert not ray.is_connected


def test_a_connection_that_was_there_before_stays(ray):
    ray.is_connected = True
    Connection(f"localhost:{PORT}", "one").close()
    assert ray.is_connected and not ray.inits


def test_a_second_cluster_is_refused(ray):
    ray.is_connected = True
    with pytest.raises(ConfigError, match=r"address of member 'one' must be .* 127.0.0.1:6379; got '127.0.0.1:1'"):
        Connection("127.0.0.1:1", "one")


def test_an_address_where_nobody_answers_is_told_at_once(ray, free_port, monkeypatch):
    with pytest.raises(MemberError, match=rf"member 'one' .* nobody answers at address='127.0.0.1:{free_port}'"):
        Connection(f"127.0.0.1:{free_port}", "one")
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_port}")
    with pytest.raises(MemberError, match="nobody answers"):
        Connection(None, "one")
    assert not ray.inits


def test_a_name_that_does_not_resolve_is_told(ray, monkeypatch):
    def resolve(*arguments, **options):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "create_connection", resolve)
    with pytest.raises(MemberError, match=r"address='head.invalid:6379' \(Name or service not known\)"):
        Connection("head.invalid:6379", "one")


def test_an_address_in_the_environment_that_is_none_is_told(ray, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "somewhere")
    with pytest.raises(ConfigError, match=r"'host:port'.*got RAY_ADDRESS='somewhere'"):
        Connection(None, "one")


def test_what_ray_says_of_a_cluster_that_is_not_there_is_handed_on(ray):
    ray.error = ConnectionError("Could not find any running Ray instance.")
    with pytest.raises(MemberError, match=r"no Ray cluster at address='auto' \(Could not find any running"):
        Connection("auto", "one")


def test_resources_are_shown_without_those_that_ray_adds():
    held = {"CPU": 2.0, "node:10.0.0.1": 1.0, "memory": 5e9, "object_store_memory": 1e9, "far": 0.5}
    assert show_resources(held) == "2 CPU, 0.5 far"
    assert show_resources({}) == "nothing"
