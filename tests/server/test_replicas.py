"""Two replicas of the bundled models on a cluster of this machine, as the command line starts them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import httpx
import pytest
from openai import APIError, AuthenticationError, OpenAI
from typer.testing import CliRunner

from deepen_llm.cli.app import app
from deepen_llm.config import SamplingParams
from deepen_llm.errors import ConfigError, MemberError, MissingDependencyError
from deepen_llm.frontends.source import EnsembleSource
from deepen_llm.server.replicas import serve_replicas
from deepen_llm.server.running import serve
from deepen_llm.server.settings import ServerSettings
from tests.server.serving import wait_until

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_AUTH_MODE"] = "disabled"  # else Ray writes a token into the home folder
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # what keeps Ray on 127.0.0.1

STARTER = EnsembleSource(model="starter")
PROMPTS = ["Once upon a time", "The capital of France is", "2 + 3 =", "The opposite of hot is"]
START_S = 180
GREEDY = {"model": "deepen", "temperature": 0, "max_tokens": 16}
LONG = GREEDY | {"max_tokens": 400, "extra_body": {"ignore_eos": True}}


@pytest.fixture(scope="module")
def folder():
    """Where Ray keeps its files: a short path, for sockets."""
    made = tempfile.mkdtemp(prefix="ray")
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="module")
def served(folder):
    """The command; gives its process, and its address."""
    pytest.importorskip("ray.serve")
    own = {"DEEPEN_API_KEY": "secret", "PYTHONUNBUFFERED": "1", "RAY_ADDRESS": "local", "RAY_TMPDIR": folder}
    command = [sys.executable, "-m", "deepen_llm", "serve", "--replicas", "2", "--port", "0"]
    environment = {**os.environ, **own}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    watch = threading.Timer(START_S, process.kill)
    watch.start()
    try:
        address = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())[0]
        watch.cancel()
        yield SimpleNamespace(process=process, address=address)
    finally:
        watch.cancel()
        process.kill()
        process.communicate()


@pytest.fixture
def client(served):
    with OpenAI(base_url=f"{served.address}/v1", api_key="secret", max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
def cluster(folder):
    """A cluster of two CPUs to which this process is connected."""
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", folder)
        ray.init("local", num_cpus=2, object_store_memory=100_000_000, include_dashboard=False, log_to_driver=False)
        try:
            yield ray
        finally:
            ray.shutdown()


def read_numbers(served, name):
    """One number of every replica, by the replica's name."""
    text = httpx.get(f"{served.address}/metrics", headers={"Authorization": "Bearer secret"}).text
    found = dict.fromkeys(re.findall(r'replica="(\w+)"', text), 0.0)
    for labels, value in re.findall(rf"^{name}{{(.*)}} (\S+)$", text, re.MULTILINE):
        found[re.search(r'replica="(\w+)"', labels)[1]] += float(value)
    return found


@pytest.mark.ray
def test_two_replicas_say_what_one_says_streaming_or_not(client, starter):
    params = SamplingParams(temperature=0, max_new_tokens=16)
    expected = [starter.generate(prompt, params).text for prompt in PROMPTS]
    for _ in range(2):
        whole = [client.completions.create(prompt=prompt, **GREEDY).choices[0].text for prompt in PROMPTS]
        assert whole == expected
    streams = [client.completions.create(prompt=prompt, stream=True, **GREEDY) for prompt in PROMPTS]
    assert ["".join(chunk.choices[0].text for chunk in stream) for stream in streams] == expected


@pytest.mark.ray
def test_requests_in_parallel_reach_both(served, client):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda prompt: client.completions.create(prompt=prompt, **GREEDY), PROMPTS * 6))
    answered = read_numbers(served, "deepen_request_success_total")
    assert len(answered) == 2 and min(answered.values()) > 0


@pytest.mark.ray
def test_without_a_key_nobody_answers(served):
    with pytest.raises(AuthenticationError, match="this one's is not known"):
        OpenAI(base_url=f"{served.address}/v1", api_key="wrong").models.list()
    assert httpx.get(f"{served.address}/health").json() == {"status": "ok"}


@pytest.mark.ray
def test_a_client_that_goes_away_frees_its_row(served, client):
    with client.completions.create(prompt="Once", stream=True, **LONG) as stream:
        next(iter(stream))
        assert sum(read_numbers(served, "deepen_num_requests_running").values()) == 1
    assert wait_until(lambda: not any(read_numbers(served, "deepen_num_requests_running").values()))


@pytest.mark.ray
def test_a_replica_that_is_killed_fails_what_it_answers_and_is_replaced(served, client):
    psutil = pytest.importorskip("psutil")
    before = set(read_numbers(served, "deepen_num_requests_running"))
    children = psutil.Process(served.process.pid).children(recursive=True)
    replicas = [child for child in children if any("ServeReplica" in word for word in child.cmdline())]
    assert len(replicas) == 2

    def ask(_):
        try:
            answer = client.completions.create(prompt="Once", **LONG)
            return answer.usage.completion_tokens
        except APIError as error:
            return error

    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(ask, place) for place in range(8)]
        assert wait_until(
            lambda: len(running := read_numbers(served, "deepen_num_requests_running")) == 2 and all(running.values())
        )
        replicas[0].kill()
        results = [one.result(timeout=60) for one in asked]
    failed = [result for result in results if isinstance(result, APIError)]
    assert 0 < len(failed) < 8 and all(result in failed or result == 400 for result in results)
    assert client.completions.create(prompt="Once", **GREEDY).choices[0].text
    assert wait_until(lambda: len(set(read_numbers(served, "deepen_num_requests_running")) - before) == 1, seconds=60)


@pytest.mark.ray
def test_asked_to_stop_they_end_what_runs_and_take_nothing_new(served, client):
    """The last one that asks the command's server."""
    with client.completions.create(prompt="Once", stream=True, **LONG) as stream:
        chunks = iter(stream)
        next(chunks)
        served.process.send_signal(signal.SIGTERM)
        assert wait_until(lambda: httpx.get(f"{served.address}/health").status_code == 503)
        with pytest.raises(APIError, match="the server is ending"):
            client.completions.create(prompt="Once", **GREEDY)
        assert list(chunks)[-1].choices[0].finish_reason == "length"
    assert served.process.wait(60) == 0
    assert "Traceback" not in served.process.stderr.read()


@pytest.mark.ray
def test_what_the_cluster_has_no_room_for_is_refused(cluster):
    with pytest.raises(ConfigError, match=r"room for 3 replicas with 1 CPU each; 2 CPU are free: give fewer"):
        serve_replicas(STARTER, ServerSettings(replicas=3, port=0))
    with pytest.raises(ConfigError, match=r"room for 2 replicas with 1 GPU each; 0 GPU are free"):
        serve_replicas(STARTER, ServerSettings(replicas=2, port=0, replica_gpus=1))


@pytest.mark.ray
def test_a_port_that_is_taken_is_told(cluster):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"listen at port {port} of '127.0.0.1': .*in use: give another port"):
            serve_replicas(STARTER, ServerSettings(replicas=2, port=port))


@pytest.mark.ray
def test_what_a_replica_cannot_load_is_told(cluster, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(MemberError, match=rf"could not load the ensemble: MemberError: member '{tmp_path.name}'"):
        serve_replicas(EnsembleSource(model=[tmp_path]), ServerSettings(replicas=2, port=0))


@pytest.mark.ray
def test_a_cluster_that_serves_already_is_left_to_those_whose_it_is(cluster):
    from ray import serve as ray_serve

    ray_serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": free_port()})
    try:
        with pytest.raises(ConfigError, match="must not run Ray Serve for others"):
            serve_replicas(STARTER, ServerSettings(replicas=2, port=0))
        assert ray_serve.status().proxies
    finally:
        ray_serve.shutdown()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as made:
        return made.getsockname()[1]


def test_a_number_that_is_none_is_wrong_usage():
    for number in ("0", "-1", "two"):
        result = CliRunner().invoke(app, ["serve", "--replicas", number])
        assert result.exit_code == 2 and "replicas" in result.output


def test_a_loaded_ensemble_is_one_replica(starter):
    settings = ServerSettings(replicas=2)
    with pytest.raises(ConfigError, match="a loaded ensemble is one replica; got replicas=2"):
        serve(starter, settings)
    with pytest.raises(ConfigError, match="give the EnsembleSource; got Ensemble"):
        serve_replicas(starter, settings)


def test_a_cluster_that_is_not_there_is_told(monkeypatch):
    pytest.importorskip("ray.serve")
    monkeypatch.setattr("ray.is_initialized", lambda: False)  # whatever other tests have begun
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_port()}")
    with pytest.raises(MemberError, match="a replica cannot be loaded: nobody answers at address='127"):
        serve_replicas(STARTER, ServerSettings(replicas=2))


def test_without_ray_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray.serve", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'deepen-llm\[ray,server\]'"):
        serve_replicas(STARTER, ServerSettings(replicas=2))
