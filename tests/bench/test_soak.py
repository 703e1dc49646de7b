"""A soak: what it asks, what it makes fail, and what it finds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deepen_llm.bench.soak import Soak
from deepen_llm.bench.soak_cases import NUM_SETTINGS, Case, WrongAnswerError, ask_alone
from deepen_llm.bench.soak_faults import RandomFaults, make_faults
from deepen_llm.bench.soak_load import WRONG, Load
from deepen_llm.bench.soak_watch import MB, Holding, Sample, Watch, measure_slope
from deepen_llm.config import SamplingParams
from deepen_llm.errors import DeepenError
from deepen_llm.results import Candidate, Generation, Score, TokenLogprob, Usage
from deepen_llm.testing import ScriptedMember


@pytest.fixture
def members(vocabularies):
    texts = ["A boy and his dog went to the park to play with a red ball. They were happy."]
    return [ScriptedMember(vocabularies[kind], texts, context_length=256) for kind in ("bpe", "sentencepiece")]


@pytest.fixture
def make_soak(members, make_ensemble):
    """A soak over scripted members and two questions."""
    made = []

    def make(**settings):
        config = make_ensemble(["a"]).config
        made.append(Soak(members, config, num_threads=2, prompts=("A boy and his dog went", "Once"), **settings))
        return made[-1]

    yield make
    for soak in made:
        soak.close()


@pytest.mark.lengthy
def test_a_soak_of_sound_members_finds_nothing_wrong(make_soak):
    told = []
    report = make_soak(fault_share=0.0).run(2.0, lambda number, second: told.append((number, second)))
    assert report.failures == []
    assert report.total > 20 and told[-1][0] <= report.total
    assert report.num_compared > 10 and not report.num_ties
    assert not report.num_faults and report.num_running == 0 and set(report.num_open.values()) == {0}


@pytest.mark.lengthy
def test_members_that_break_fail_their_requests_and_nothing_else(make_soak):
    report = make_soak(fault_share=0.02).run(2.0)
    assert report.failures == []
    assert report.num_faults and report.num_requests["failed"] > 0


@pytest.mark.lengthy
def test_a_row_that_is_left_and_an_error_without_a_name_are_found(make_soak, members):
    soak = make_soak(fault_share=0.0)
    soak._members[0].num_open = 1
    soak._wait_until_idle = lambda: None
    soak._ensemble.stream = soak._ensemble.agenerate = lambda *arguments: 1 / 0
    failures = soak.run(1.5).failures
    assert "1 rows are left in bpe" in failures
    assert any("ZeroDivisionError" in failure for failure in failures)


def test_answers_are_known_before_anything_fails(make_ensemble):
    cases = ask_alone(make_ensemble(["a b c."]), ["a", "b"])
    assert len(cases) == 2 * NUM_SETTINGS
    assert all(case.alone.logprobs for case in cases)


def make_case(**params):
    top = (Candidate(1, "a", 0.5), Candidate(2, "b", 0.499), Candidate(3, "c", 0.001))
    logprobs = (TokenLogprob(1, "a", -0.6931, top),)
    alone = Generation("a", (1,), "stop", Usage(1, 1), logprobs)
    return Case("say", SamplingParams(**params), False, alone, Score(-2.0, True, 1))


def test_another_answer_is_wrong_unless_both_were_equally_good():
    case = make_case()
    assert case.check("a", [1])
    assert not case.check("b", [2])
    for text, ids in (("c", [3]), ("d", [4]), ("a", [1, 2]), ("A", [1])):
        with pytest.raises(WrongAnswerError, match="when asked alone"):
            case.check(text, ids)


def test_a_structured_answer_must_be_whole_also_where_it_is_as_it_was():
    with pytest.raises(WrongAnswerError, match="not of its schema"):
        make_case(json_schema={"type": "object"}).check("a", [1])


def test_another_score_is_wrong():
    make_case().check_score(Score(-2.001, True, 1))
    with pytest.raises(WrongAnswerError, match="scored"):
        make_case().check_score(Score(-2.1, True, 1))


@pytest.mark.parametrize("name", WRONG)
def test_what_is_to_be_refused_is(make_ensemble, name):
    with pytest.raises(DeepenError):
        WRONG[name](make_ensemble(["a b."]))


@pytest.mark.parametrize("way", ["closed", "dropped", "late", "refused", "sampled", "paused"])
def test_every_way_to_ask_says_how_it_ended(make_ensemble, way):
    ensemble = make_ensemble(["a b c d."])
    assert Load(ensemble, [replace(make_case(), prompt="a b")], seed=0).ways[way]() == way


@pytest.mark.parametrize("way", ["closed by await", "cancelled", "late by await"])
async def test_every_way_to_await_says_how_it_ended(make_ensemble, way):
    ensemble = make_ensemble(["a b c d."])
    assert await Load(ensemble, [replace(make_case(), prompt="a b")], seed=0).async_ways[way]() == way


def test_faults_come_by_their_share_and_are_counted():
    never, always = RandomFaults(0.0, 0), RandomFaults(1.0, 0)
    assert not any(never("result") for _ in range(100))
    assert all(always("open") for _ in range(200))
    assert always.num_made.total() == 200
    assert {name.removeprefix("open: ") for name in always.num_made} == set(make_faults("open"))


def test_memory_that_grows_after_the_warm_up_is_told_from_memory_that_does_not():
    flat = [Sample(float(second), 500.0 + second % 3, 4, 8) for second in range(300)]
    slope, growth = measure_slope(flat)
    assert abs(slope) < 10 and abs(growth) < 1
    growing = [sample._replace(memory_mb=500.0 + sample.at_s) for sample in flat]
    assert measure_slope(growing) == (pytest.approx(3600.0), pytest.approx(199.0))
    assert measure_slope(growing[:20]) == (None, 0.0)


def test_what_grew_is_said():
    before = Sample(0.0, 100.0, 4, 8)
    after = Sample(9.0, 200.0, 5, 9)
    found = Holding(before, after, 200.0, 400.0, 40.0, ()).describe_growth()
    assert found == ["memory grew by 40 MB after the warm-up", "4 threads became 5", "8 open files became 9"]
    assert Holding(before, before, 100.0, 1.0, 0.5, ()).describe_growth() == []


def test_a_watch_sees_memory_threads_and_files():
    holding = Watch(1.0).stop()
    assert holding.before.memory_mb > 10 and holding.before.num_threads >= 1 and holding.before.num_files > 2
    assert holding.slope_mb_per_hour is None and MB == 2**20
