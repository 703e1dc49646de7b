"""`deepen bench soak`."""

from __future__ import annotations

import json

import pytest

from deepen_llm.bench.soak import SoakReport
from deepen_llm.bench.soak_watch import Holding, Sample


class Soak:
    """Finds what it is told to."""

    report = None

    def __init__(self, members, config, *, num_threads, fault_share, seed):
        assert len(members) == 2 and (num_threads, fault_share, seed) == (3, 0.5, 7)

    def run(self, seconds, tell):
        assert seconds == 60
        tell(4, 1.0)
        return self.report

    def close(self):
        pass


def make_report(**changes):
    sample = Sample(0.0, 100.0, 4, 8)
    holding = Holding(sample, sample, 100.0, 1.5, 0.5, (sample,))
    counts = {"num_requests": {"answered": 3}, "num_faults": {"open: slow": 1}, "errors": {"MemberError": 1}}
    sound = {
        "seconds": 60.0,
        "num_running": 0,
        "num_open": {"bpe": 0},
        "num_hung": 0,
        "problems": (),
        "num_compared": 3,
        "num_ties": 0,
    }
    return SoakReport(**{**counts, **sound, "holding": holding, **changes})


@pytest.fixture
def soak(deepen, use_ensemble, make_ensemble, monkeypatch, tmp_path):
    monkeypatch.setattr("deepen_llm.bench.soak.Soak", Soak)
    use_ensemble(make_ensemble(["a story."]))

    def run(report):
        monkeypatch.setattr(Soak, "report", report)
        options = ("--minutes", 1, "--threads", 3, "--faults", 0.5, "--seed", 7)
        return deepen("bench", "soak", *options, "--json", tmp_path / "soak.json")

    return run


def test_bench_soak_shows_how_requests_ended_and_writes_json(soak, tmp_path):
    result = soak(make_report())
    assert result.exit_code == 0, result.stderr
    assert "3 requests in 1.0 minutes" in result.stdout and "nothing is wrong" in result.stdout
    assert "+1.5 MB an hour" in result.stdout
    written = json.loads((tmp_path / "soak.json").read_text())
    assert written["total"] == 3 and written["failures"] == [] and written["holding"]["before"]["num_files"] == 8
    assert written["machine"]["torch"] and len(written["ensemble"]["members"]) == 2


def test_what_is_wrong_is_said_and_ends_with_1(soak):
    result = soak(
        make_report(num_running=2, problems=("ValueError: a",), num_problems=5, num_open={"bpe": 1}, num_hung=1)
    )
    assert result.exit_code == 1
    for failure in (
        "ValueError: a",
        "4 more",
        "2 requests still run",
        "1 rows are left in bpe",
        "1 threads never came",
    ):
        assert failure in result.stdout
    assert "nothing is wrong" not in result.stdout
