from __future__ import annotations

from contextlib import closing

import pytest

from deepen_llm import MemberConfig, SamplingParams
from deepen_llm.bench.speculation import CHATS, STORIES, SpeculationBenchmark, _load_own
from deepen_llm.ensemble import Ensemble
from deepen_llm.errors import ConfigError
from deepen_llm.starter import MODEL_NAMES


def test_chats_and_stories_are_measured_and_the_same_with_and_without_reading_ahead():
    with Ensemble.starter(members=MODEL_NAMES[:2]) as ensemble:
        with closing(SpeculationBenchmark(ensemble, num_tokens=8)) as benchmark:
            findings = list(benchmark.run())
        assert ensemble.generate("a", SamplingParams(max_new_tokens=1)).token_ids
    assert len(findings) == 8 and len(CHATS) == len(STORIES) == 8
    same = [finding for finding in findings if "are the same" in finding.name]
    assert [finding.value.median for finding in same] == [8.0, 8.0]
    assert all(len(finding.value.runs) == 8 and finding.value.low > 0 for finding in findings if finding not in same)
    assert all("of 64 tokens" in finding.note for finding in findings if finding not in same)


def test_members_that_cannot_run_by_themselves_are_refused():
    with pytest.raises(ConfigError, match="of kind 'server'"):
        _load_own(MemberConfig(model="http://localhost:1"))
