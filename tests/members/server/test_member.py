"""A member behind a server of every kind: the contract of members, and that it says what the model itself says."""

from __future__ import annotations

import logging
import threading
from itertools import pairwise

import pytest
import torch

from deepen_llm import Ensemble, EnsembleConfig, FusionConfig, MemberConfig, SamplingParams
from deepen_llm.errors import ConfigError
from deepen_llm.members.base import Branch
from deepen_llm.members.transformers import TransformersMember
from deepen_llm.testing import MemberConformance
from tests.members.server.doubles import DOUBLES, num_logits, tiny_model, tokenizer

KINDS = list(DOUBLES)


@pytest.fixture(scope="module", autouse=True)
def _place(tokenizer_folder):
    ServerConformance.folder = tokenizer_folder


class ServerConformance(MemberConformance):
    kind: str
    folder: str

    @pytest.fixture(autouse=True)
    def _clean_up(self):
        yield
        self.double.stop()

    def make_member(self):
        self.double = DOUBLES[self.kind]()
        return MemberConfig(model=self.double.address, tokenizer=self.folder, name="remote", top=100).load()

    def count_cached(self):
        return len(self.member._rows)


class TestLlamaServer(ServerConformance):
    kind = "llama-server"


class TestSglang(ServerConformance):
    kind = "sglang"


class TestVllm(ServerConformance):
    kind = "vllm"


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_told_is_what_the_model_says_and_the_rest_is_spread(kind, serve, load):
    member = load(serve(kind))
    row, ids = member.open(), member.vocabulary.encode("Once upon a time")
    logits = member.extend({row: ids})[0]
    with torch.inference_mode():
        expected = tiny_model()(torch.tensor([ids])).logits[0, -1].log_softmax(dim=-1)
    best = expected.topk(100)
    assert torch.allclose(logits[best.indices], best.values, atol=1e-5)
    others = torch.ones(num_logits(), dtype=torch.bool).scatter(0, best.indices, False)
    assert len(set(logits[others].tolist())) == 1, "what is left is spread evenly"
    assert float(logits.exp().sum()) == pytest.approx(1, abs=1e-5), "and nothing of it is dropped"


@pytest.mark.parametrize("kind", KINDS)
def test_an_ensemble_says_the_same_with_the_model_here_and_behind_a_server(kind, serve, load, tokenizer_folder):
    def make_local(name):
        return TransformersMember(tiny_model(), tokenizer(), name=name)

    main = make_local("main")
    double, params = serve(kind), SamplingParams(max_new_tokens=12)
    prompts = ["Once upon a time", "The quick brown fox"]
    member = load(double, top=num_logits())
    with Ensemble([main, member]) as ensemble:
        remote = [generation.text for generation in ensemble.generate(prompts, params)]
    with Ensemble([make_local("main"), make_local("remote")]) as ensemble:
        local = [generation.text for generation in ensemble.generate(prompts, params)]
    assert remote == local


def test_what_it_tells_of_itself(serve, load):
    member = load(serve("llama-server"))
    assert (member.kind, member.num_told, member.num_parameters, member.weight_bytes) == ("server", 100, 1234, 0)
    assert member.context_length == 127, "the token that is asked for needs a place, too"
    assert member.cache_bytes_per_token is None and member.embeddings is None
    assert member.identity["server"].startswith("http://127.0.0.1:")
    assert member.vocabulary.eos_ids and len(member.vocabulary) == num_logits()


def test_a_full_row_is_answered(serve, load):
    member = load(serve("vllm"))
    row = member.open()
    assert member.extend({row: [5] * member.context_length}).shape == (1, num_logits())


def test_it_cannot_be_the_main_model(serve, load):
    member = load(serve("vllm"))
    local = TransformersMember(tiny_model(), tokenizer(), name="local")
    with pytest.raises(ConfigError, match=r"member 'remote' \(kind 'server'\) tells those of its 100.*main='local'"):
        Ensemble([member, local])


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("kind", KINDS)
def test_a_few_tokens_after_others_are_measured(kind, temperature, serve, load):
    member = load(serve(kind), top=num_logits())
    ids = member.vocabulary.encode("Once upon a time there was a little girl")
    row, expected = member.open(), []
    for token_id, following in pairwise(ids):
        logits = member.extend({row: [token_id]})[0] / temperature
        expected.append(float(logits.log_softmax(dim=-1)[following]))
    for num in range(1, 4):
        first, other = member.open(), member.open()
        member.extend({first: ids[:4]})
        started = member.start_extend({other: ids[:1], first: ids[4:8]}, {first: num}, temperature=temperature)
        assert started.result().shape == (2, num_logits())
        assert started.measured.keys() == {first}
        assert started.measured[first].tolist() == pytest.approx(expected[7 - num : 7], abs=1e-4)


def test_the_last_tokens_of_a_row_that_begins_are_measured_where_it_has_a_slot(serve, load):
    member = load(serve("llama-server"), top=num_logits())
    ids, row = member.vocabulary.encode("Once upon a time there was a little girl"), member.open()
    member.extend({row: ids[:5]})
    expected = member.extend({row: ids[5:6]})[0].log_softmax(dim=-1)[ids[6]]
    begins = member.open()
    started = member.start_extend({begins: ids[:7]}, {begins: 2})
    started.result()
    assert float(started.measured[begins][1]) == pytest.approx(float(expected), abs=1e-4)


def test_neither_the_tokens_of_a_row_that_begins_nor_many_are_measured(serve, load):
    double = serve("vllm")
    member = load(double)
    row = member.open()
    for ids, num in (([5, 6, 7], 2), ([8] * 10, 9)):
        started = member.start_extend({row: ids}, {row: num})
        assert started.result().shape == (1, num_logits()) and not started.measured
        assert len(double.requests[-1][1]["prompt"]) == 1


def test_a_method_that_needs_embeddings_refuses_it(serve, load):
    local = TransformersMember(tiny_model(), tokenizer(), name="local")
    with pytest.raises(ConfigError, match=r"member 'remote' \(kind 'server'\) has none: take method='text'"):
        Ensemble([local, load(serve("vllm"))], EnsembleConfig(members=["a", "b"], fusion=FusionConfig(maps="all")))


def test_rows_go_to_the_slots_of_their_own_and_branches_to_those_of_their_rows(serve, load):
    double = serve("llama-server")
    member = load(double)
    first, second = member.open(), member.open()
    member.extend({second: [5, 6, 7], first: [8, 9]})
    member.peek([Branch(second, 1, [4])])
    asked = {tuple(body["prompt"]): body["id_slot"] for path, body in double.requests if path == "/completion"}
    assert (asked[5, 6, 7], asked[8, 9], asked[5, 6, 4]) == (1, 0, 1)
    member.release(first)
    assert member.open() == first, "its slot is free again"


def test_more_rows_than_slots_are_answered_and_warned_of_once(serve, load, caplog):
    double = serve("llama-server")
    double.num_slots = 2
    member = load(double)
    rows = [member.open() for _ in range(3)]
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert member.extend({row: [5] for row in rows}).shape == (3, num_logits())
    warned = [record.message for record in caplog.records]
    assert len(warned) == 1 and "has 2 slots" in warned[0] and "--parallel 3" in warned[0]


@pytest.mark.parametrize("kind", ["vllm", "sglang", "deepen"])
def test_all_rows_of_a_step_are_one_request(kind, serve, load):
    double = serve(kind)
    member = load(double)
    rows = [member.open() for _ in range(3)]
    before = len(double.requests)
    member.extend({row: [5 + row] for row in rows})
    assert len(double.requests) == before + 1


def test_requests_of_a_step_run_at_the_same_time_and_the_start_does_not_wait(serve, load):
    double = serve("llama-server")
    member = load(double)
    together = threading.Barrier(3, timeout=10)
    double.before = lambda handler, path, body: together.wait() is None
    rows = [member.open() for _ in range(3)]
    started = member.start_extend({row: [5 + row] for row in rows})
    assert started.result().shape == (3, num_logits()), "each waited for the other two"


def test_few_tokens_are_warned_of(serve, load, caplog):
    with caplog.at_level(logging.WARNING):
        load(serve("vllm"), top=20)
    assert any("20 tokens a step" in record.message for record in caplog.records)


def test_all_that_were_told_may_be_the_whole_vocabulary(serve, load):
    member = load(serve("sglang"), top=20_000)
    assert member.num_told == num_logits()
    assert member.extend({member.open(): [5]}).isfinite().all()
