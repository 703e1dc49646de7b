"""The benchmark of beginnings that are read once, on a bundled model."""

from __future__ import annotations

from contextlib import closing

from deepen_llm.bench.prefix import ROOM, PrefixBenchmark
from deepen_llm.ensemble import Ensemble
from deepen_llm.starter import MODEL_NAMES


def test_every_finding_is_there_and_the_answers_are_the_same():
    with Ensemble.starter(members=MODEL_NAMES[:1], dtype="float32") as ensemble:
        benchmark = PrefixBenchmark(ensemble, num_context=200, num_questions=2, num_tokens=2, num_repetitions=1)
        with closing(benchmark):
            findings = list(benchmark.run())
        assert ensemble.generate("Once").text
    assert [finding.wants for finding in findings] == ["at most", "at least", "at least"]
    assert "200 tokens of context" in findings[0].name and "answers of 2" in findings[1].name
    assert findings[0].value.low > 0 and set(findings[0].milliseconds) == {"first turn", "second turn"}
    assert findings[2].value.median == 2


def test_a_context_that_does_not_fit_is_shortened(make_ensemble):
    with closing(PrefixBenchmark(make_ensemble(["a cat"], context_length=512))) as benchmark:
        assert benchmark.num_context == 512 - ROOM
