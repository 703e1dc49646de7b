"""Members in actors on two nodes: the answers of one process, also when an actor dies on the way."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deepen_llm.config import EnsembleConfig, FusionConfig, MemberConfig, SamplingParams
from deepen_llm.ensemble import Ensemble
from deepen_llm.errors import ConfigError, MemberError
from deepen_llm.members.borrowed import BorrowedMember
from deepen_llm.members.ray import RayMember
from deepen_llm.members.ray.cluster import Connection
from deepen_llm.members.ray.messages import Change
from deepen_llm.starter import model_paths
from deepen_llm.testing import MemberConformance

pytestmark = pytest.mark.ray

PATHS = [str(path) for path in model_paths()]
PROMPTS = [
    "Once upon a time there was",
    "The capital of France is",
    "The opposite of hot is",
    "2 + 3 =",
    "The dog ran to the",
    "Gold is",
    "A small girl went",
    "One two three",
]
PARAMS = SamplingParams(max_new_tokens=24, temperature=0)
TOP = 4000
"""More than the starters have tokens: then nothing is spread, and the answers are exact."""
DELAY_S = 0.2
NUM_ROWS = 1000
"""More than a test of the suite opens."""


@pytest.fixture(scope="module")
def main():
    """The main model, in this process."""
    made = MemberConfig(model=PATHS[0]).load()
    yield made
    made.close()


@pytest.fixture(scope="module")
def far(cluster):
    """Two other members, each in an actor on a node of its own."""
    configs = [
        MemberConfig(model=PATHS[1], device="ray", top=TOP),
        MemberConfig(model=PATHS[2], device="ray", top=TOP, resources={"far": 0.5}),
    ]
    with ThreadPoolExecutor() as threads:
        made = list(threads.map(lambda config: config.load(), configs))
    TestInACluster.kept = made[0]
    yield made
    for member in made:
        member.close()


def make_ensemble(members, method):
    config = EnsembleConfig(
        members=tuple(MemberConfig(model=member.name) for member in members), fusion=FusionConfig(method=method)
    )
    return Ensemble([BorrowedMember(member) for member in members], config)


def generate(members, method):
    with make_ensemble(members, method) as ensemble:
        return [answer.text for answer in ensemble.generate(PROMPTS, PARAMS)]


@pytest.fixture(scope="module")
def expected(main):
    """What the same members answer in one process."""
    near = [main, *(MemberConfig(model=path).load() for path in PATHS[1:])]
    yield {method: generate(near, method) for method in ("text", "relative")}
    for member in near[1:]:
        member.close()


def call(member, function):
    """Something done within a member's actor."""
    return member._connection.ray.get(member._host._actor.__ray_call__.remote(function))


def find_node(actor):
    import ray

    return ray.get_runtime_context().get_node_id()


def test_actors_run_on_the_nodes_that_were_asked_for(far, cluster):
    nodes = [call(member, find_node) for member in far]
    assert nodes[1] == cluster.list_all_nodes()[1].node_id
    assert set(nodes) <= {node.node_id for node in cluster.list_all_nodes()}
    assert call(far[0], lambda actor: os.getpid()) != os.getpid()


@pytest.mark.parametrize("method", ["text", "relative"])
def test_texts_are_those_of_one_process(main, far, expected, method):
    assert generate([main, *far], method) == expected[method]


def test_with_the_best_256_tokens_most_texts_are_the_same(main, far, expected):
    for member in far:
        call(member, lambda actor: setattr(actor, "_num_told", 256))
    try:
        texts = generate([main, *far], "text")
    finally:
        for member in far:
            call(member, lambda actor: setattr(actor, "_num_told", TOP))
    assert sum(one == other for one, other in zip(texts, expected["text"], strict=True)) >= 6


def test_members_run_at_the_same_time(far):
    def slow_down(actor):
        start = actor._loaded.start_extend
        actor._loaded.start_extend = lambda *given, **named: (time.sleep(DELAY_S), start(*given, **named))[1]

    def speed_up(actor):
        del actor._loaded.start_extend

    rows = [member.open() for member in far]
    for member in far:
        call(member, slow_down)
    begin = time.monotonic()
    started = [member.start_extend({row: [5, 6]}) for member, row in zip(far, rows, strict=True)]
    for one in started:
        one.result()
    took_s = time.monotonic() - begin
    for member, row in zip(far, rows, strict=True):
        call(member, speed_up)
        member.release(row)
    assert DELAY_S <= took_s < 1.6 * DELAY_S


def test_an_actor_killed_in_the_middle_of_eight_answers_loses_none(main, far, expected, caplog):
    pid = call(far[1], lambda actor: os.getpid())
    with make_ensemble([main, *far], "text") as ensemble:
        stream = ensemble.stream(PROMPTS[0], PARAMS)
        first = next(stream)
        killer = threading.Thread(target=lambda: (time.sleep(0.3), os.kill(pid, signal.SIGKILL)))
        killer.start()
        texts = [answer.text for answer in ensemble.generate(PROMPTS, PARAMS)]
        killer.join()
        rest = "".join(chunk.text for chunk in stream)
    assert texts == expected["text"]
    assert first.text + rest == expected["text"][0]
    assert "another one is started and fed anew" in caplog.text
    assert call(far[1], lambda actor: os.getpid()) != pid


class KeptHost:
    """The host of a member that goes on after one that stood on the same actor was closed."""

    def __init__(self, host):
        self._host = host

    def __getattr__(self, name):
        return getattr(self._host, name)

    def stop(self):
        pass


@pytest.mark.usefixtures("far")
class TestInACluster(MemberConformance):
    """Over one actor for all tests, emptied before each."""

    kept: RayMember
    """Set by the fixture."""

    def make_member(self):
        host, config = KeptHost(self.kept._host), MemberConfig(model=PATHS[1], device="ray", top=TOP)
        host.ask("change", [Change(row, None) for row in range(NUM_ROWS)], timeout_s=10)
        return RayMember(config, self.kept.name, Connection(None, self.kept.name), host)


def test_a_cluster_without_room_says_who_asked_for_what(cluster):
    config = MemberConfig(model=PATHS[1], name="big", device="ray", num_gpus=2, resources={"far": 1}, room_timeout_s=1)
    begin = time.monotonic()
    message = (
        r"member 'big' asked the Ray cluster for an actor with 1 CPU, 2 GPU, 1 far on one node, and got no room within "
        r"1 s; the cluster's nodes have 127.0.0.1: 2 CPU.*127.0.0.1: 2 CPU, 1 far.*: ask for less"
    )
    with pytest.raises(MemberError, match=message):
        config.load()
    assert time.monotonic() - begin < 10


def test_a_placement_group_that_does_not_exist_is_told(cluster):
    with pytest.raises(ConfigError, match=r"placement_group of member 'x' must be the name of.*got 'nowhere'"):
        MemberConfig(model=PATHS[1], name="x", device="ray", placement_group="nowhere").load()


def test_what_is_wrong_with_a_model_is_told_by_its_actor_here_in_a_placement_group(cluster):
    from ray.util import placement_group, remove_placement_group

    group = placement_group([{"CPU": 1}], name="replica")
    config = MemberConfig(model="/nowhere/x", device="ray", placement_group="replica", bundle=0, room_timeout_s=30)
    with pytest.raises(MemberError, match=r"^member 'x': there is no folder '/nowhere/x': give a model's folder"):
        config.load()
    remove_placement_group(group)


def test_code_of_the_page_on_scaling_runs(cluster, far, capsys):
    page = (Path(__file__).parents[3] / "docs" / "scaling.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (code,) = [block for block in blocks if "import ray" in block]
    code = code.replace("org/main-model", PATHS[0]).replace("org/other-model", PATHS[1])
    scope = {"__name__": "page"}
    exec(compile(code, "scaling.md", "exec", dont_inherit=True), scope)
    assert "Paris" in capsys.readouterr().out
    scope["ray"].kill(scope["replica"])
