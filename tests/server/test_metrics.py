"""What a server tells Prometheus."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from deepen_llm.server.metrics import Gathered
from tests.server.serving import serving
from tests.test_ensemble import TEXTS

BODY = {"prompt": "The", "max_tokens": 5, "ignore_eos": True, "temperature": 0}


@pytest.fixture
def server(make_ensemble):
    with serving(make_ensemble(TEXTS)) as server:
        yield server


def read(server):
    """Every sample by its name and its labels, the model's name left out where it is the ensemble's."""
    text = httpx.get(f"{server.address}/metrics").text
    return {
        (sample.name, *(value for value in sample.labels.values() if value != "deepen")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.mark.parametrize("is_stream", [False, True])
def test_an_answer_is_counted_however_it_is_sent(server, is_stream):
    usage = httpx.post(f"{server.address}/v1/completions", json=BODY).json()["usage"]
    before = read(server)
    httpx.post(f"{server.address}/v1/completions", json={**BODY, "stream": is_stream, "prompt": ["The", "The"]})
    after = read(server)
    more = {key: value - before.get(key, 0.0) for key, value in after.items()}
    assert more["deepen_prompt_tokens_total",] == 2 * usage["prompt_tokens"]
    assert more["deepen_prefix_cache_hits_total",] == 0
    assert more["deepen_generation_tokens_total",] == 10
    assert more["deepen_request_success_total", "length"] == 2
    assert more["deepen_e2e_request_latency_seconds_count",] == 1
    assert more["deepen_steps_total",] == more["deepen_fused_steps_total",] == 10
    assert more["deepen_member_weight_sum", "bpe"] == pytest.approx(1.4)
    assert more["deepen_engine_steps_total",] >= 5
    assert more["deepen_member_seconds_total", "bpe"] > 0 and more["deepen_member_seconds_total", "sentencepiece"] > 0
    if is_stream:
        assert more["deepen_time_to_first_token_seconds_count",] == 2
        assert more["deepen_inter_token_latency_seconds_count",] >= 6


def test_requests_that_are_not_answered_are_counted_by_their_status(server):
    httpx.post(f"{server.address}/v1/completions", json={})
    httpx.get(f"{server.address}/nowhere")
    assert (
        read(server)["deepen_request_failure_total", "400"],
        read(server)["deepen_request_failure_total", "404"],
    ) == (1, 1)


def test_requests_that_may_not_pass_are_counted_too(make_ensemble):
    with serving(make_ensemble(TEXTS), max_body_bytes=100, api_keys=("secret",)) as server:
        key = {"Authorization": "Bearer secret"}
        httpx.post(f"{server.address}/v1/completions", json=BODY)
        httpx.post(f"{server.address}/v1/completions", json={**BODY, "prompt": "x" * 200}, headers=key)
        httpx.get(f"{server.address}/health", headers={"Host": "evil.example"})
        metrics = httpx.get(f"{server.address}/metrics", headers=key).text
    for status in (401, 403, 413):
        assert f'deepen_request_failure_total{{status="{status}"}} 1.0' in metrics


def test_a_member_alone_is_counted_by_its_name(server):
    httpx.post(f"{server.address}/v1/completions", json={**BODY, "model": "bpe"})
    assert read(server)["deepen_generation_tokens_total", "bpe"] == 5


def test_the_dashboard_asks_for_nothing_that_is_not_told(server):
    httpx.post(f"{server.address}/v1/completions", json={**BODY, "stream": True})
    httpx.post(f"{server.address}/v1/completions", json={})
    told = {name for name, *_ in read(server)}
    dashboard = (Path(__file__).parents[2] / "docs" / "grafana.json").read_text("utf-8")
    asked = set(re.findall(r"deepen_\w+", dashboard))
    assert len(asked) > 10 and asked <= told


def test_the_numbers_of_several_replicas_are_told_once_a_metric_with_a_label_each():
    registries = {name: CollectorRegistry() for name in ("first", "second")}
    for number, registry in enumerate(registries.values(), start=1):
        Counter("answers", "Answers.", ("model",), registry=registry).labels("deepen").inc(number)
    told = generate_latest(Gathered({name: list(registry.collect()) for name, registry in registries.items()})).decode()
    assert told.count("# TYPE answers_total counter") == 1
    assert 'answers_total{model="deepen",replica="first"} 1.0' in told
    assert 'answers_total{model="deepen",replica="second"} 2.0' in told
