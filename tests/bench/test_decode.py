from __future__ import annotations

import pytest
import torch

from deepen_llm import MemberConfig
from deepen_llm.bench.decode import PROMPT, DecodeBenchmark, Finding, load_model, time_own_generate
from deepen_llm.bench.timing import Spread
from deepen_llm.ensemble import Ensemble
from deepen_llm.starter import MODEL_NAMES, model_paths


@pytest.fixture(scope="module")
def decoding():
    with Ensemble.starter(members=MODEL_NAMES[:2]) as ensemble:
        yield DecodeBenchmark(ensemble, num_tokens=8, num_repetitions=1)


@pytest.mark.parametrize(
    ("wants", "runs", "is_met"),
    [
        ("at most", (0.5, 1.0, 9.0), True),
        ("at most", (1.1,), False),
        ("at least", (4.0,), True),
        ("at least", (3.9,), False),
    ],
)
def test_a_finding_compares_its_median_with_the_target(wants, runs, is_met):
    assert Finding("x", Spread(runs), {"at most": 1.0, "at least": 4.0}[wants], wants).is_met is is_met


def test_own_generate_makes_the_asked_number_of_tokens_whatever_the_model_ends_with(decoding):
    model = load_model(MemberConfig(model=str(model_paths()[0])))
    made = []
    generate = model.generate
    model.generate = lambda *args, **options: made.append(generate(*args, **options)) or made[-1]
    assert time_own_generate(model, [5, 6, 7], 12) > 0
    assert made[0].shape == (1, 3 + 12)


def test_a_context_too_small_for_the_answer_shortens_it_and_says_so(make_ensemble, monkeypatch):
    monkeypatch.setattr("deepen_llm.bench.decode.load_model", lambda config: torch.nn.Identity())
    ensemble = make_ensemble([PROMPT + " a cat." * 100], context_length=60)
    benchmark = DecodeBenchmark(ensemble, num_tokens=200, num_repetitions=1)
    assert benchmark.num_tokens < 60
    assert "and not 200: the context of" in benchmark.note and "holds 60 tokens" in benchmark.note


def test_prompts_have_about_the_asked_number_of_tokens(decoding):
    for wanted in (34, 384):
        prompt = decoding._make_prompt(wanted)
        assert wanted <= decoding._ensemble.count_tokens(prompt) <= wanted + 8


def test_every_measurement_yields_a_finding_and_threads_get_what_they_get_alone(decoding):
    findings = list(decoding.run())
    assert [finding.wants for finding in findings] == ["at most", "at least", "at most", "at least", "at least"]
    assert all(
        finding.value.low > 0 and "8 tokens" in finding.name
        for finding in findings
        if "context" not in finding.name and "prompts" not in finding.name
    )
    assert all(set(finding.milliseconds) for finding in findings[:4])
    assert findings[-1].value.median == 16
