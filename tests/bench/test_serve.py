"""A server beside its engine."""

from __future__ import annotations

import pytest

pytest.importorskip("fastapi")

import httpx

from deepen_llm import Ensemble
from deepen_llm.bench.serve import ENGINE, SERVER, ServeBenchmark
from deepen_llm.bench.serve_process import serving as serving_apart
from deepen_llm.bench.serve_users import Pace, at_engine, at_server, use
from deepen_llm.config import EnsembleConfig, MemberConfig
from deepen_llm.errors import EngineError, MemberError
from deepen_llm.testing import FaultyMember
from deepen_llm.testing.faulty import raising
from tests.server.serving import serving
from tests.test_ensemble import TEXTS

NUM_TOKENS = 10
PROMPTS = [["The", "A"], ["The"]]


@pytest.fixture
def ensemble(make_ensemble):
    return make_ensemble(TEXTS)


@pytest.mark.parametrize("streams", [True, False])
async def test_users_get_as_many_tokens_of_a_server_as_of_its_engine(ensemble, streams):
    with serving(ensemble) as server:
        for door in (
            lambda: at_engine(ensemble, streams=streams),
            lambda: at_server(server.address, streams=streams),
        ):
            pace = await use(door, PROMPTS, NUM_TOKENS)
            assert pace.num_tokens == 3 * NUM_TOKENS
            assert len(pace.first_s) == 3 and (20 < len(pace.between_s) <= 27 if streams else not pace.between_s)
            assert 0 < pace.token_s < 5


async def test_a_refused_request_is_an_error_and_no_figure(ensemble):
    with serving(ensemble, max_tokens=5) as server:
        for streams in (True, False):
            with pytest.raises(httpx.HTTPStatusError, match="400"):
                await use(lambda streams=streams: at_server(server.address, streams=streams), PROMPTS, NUM_TOKENS)


def test_every_finding_says_what_the_server_adds(ensemble):
    with serving(ensemble) as server:
        benchmark = ServeBenchmark(ensemble, server.address, num_users=3, num_tokens=NUM_TOKENS, num_repetitions=2)
        alone, streams, whole = benchmark.run()
    assert (alone.target, alone.wants, streams.target, streams.wants) == (2.0, "at most", 0.9, "at least")
    assert len(alone.value.runs) == 4 and len(streams.value.runs) == len(whole.value.runs) == 2
    for name in (ENGINE, SERVER):
        for what in ("to the first token", "between tokens"):
            assert 0 < streams.milliseconds[f"{name} {what}, median"] <= streams.milliseconds[f"{name} {what}, 99%"]
    assert whole.value.low > 0 and "tokens a second" in whole.note


async def test_a_stream_that_is_cut_is_an_error_and_no_figure(make_ensemble):
    faulty = FaultyMember(make_ensemble(TEXTS).members[0])
    passes = iter(range(100))
    faulty.choose = lambda doing: raising(OSError("gone")) if doing == "result" and next(passes) > 4 else None
    cut = pytest.raises(MemberError, match="must end with its usage")
    with Ensemble([faulty]) as broken, serving(broken) as server, cut:
        await use(lambda: at_server(server.address, streams=True), [["The"]], NUM_TOKENS)


def test_the_time_of_a_token_is_that_of_all_users():
    assert Pace(num_tokens=4, took_s=2.0).token_s == 0.5


@pytest.mark.slow
def test_a_server_in_a_process_of_its_own_answers_and_ends():
    from deepen_llm.starter import model_paths

    config = EnsembleConfig(members=(MemberConfig(model=str(model_paths()[0])),))
    with serving_apart(config) as address:
        assert httpx.get(f"{address}/health").status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{address}/health")


@pytest.mark.slow
def test_a_server_that_does_not_start_says_why(tmp_path):
    config = EnsembleConfig(members=(MemberConfig(model=str(tmp_path / "nothing")),))
    with pytest.raises(EngineError, match=r"did not start.*nothing"), serving_apart(config):
        pass
