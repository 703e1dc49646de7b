"""A fusion method, a kind of member and a way to weigh are a file and a line each, wherever they can be named."""

from __future__ import annotations

import pytest
import torch

from deepen_llm import Ensemble, EnsembleConfig, FusionConfig, MemberConfig, SamplingParams
from deepen_llm.config import WeightingConfig
from deepen_llm.errors import ConfigError

STORY = "The quick brown fox jumps over the lazy dog."


@pytest.fixture
def registered(monkeypatch):
    """The one line of each."""
    monkeypatch.setitem(FusionConfig.variants, "boldest", "tests.extensions:BoldestConfig")
    monkeypatch.setitem(MemberConfig.variants, "parrot", "tests.extensions:ParrotConfig")
    monkeypatch.setitem(WeightingConfig.variants, "loser_pays", "tests.extensions:LoserConfig")


@pytest.mark.usefixtures("registered")
def test_a_new_fusion_method_has_everything_that_the_frame_gives(make_ensemble):
    for fusion in ({}, {"trust": 0.5}, {"fuse": "safe"}, {"main_ends": True, "floor": 1e-4}):
        ensemble = make_ensemble([STORY], fusion=FusionConfig(method="boldest", **fusion))
        generation = ensemble.generate(STORY[:9], SamplingParams(logprobs=3))
        assert generation.text == STORY[9:]
        assert all(choice.logprob <= 1e-4 for choice in generation.logprobs)
    alone = make_ensemble([STORY], ("bpe",)).score(STORY[:9], STORY[9:20]).logprob
    ensemble = make_ensemble([STORY], weights=(1.0, 0.0), fusion=FusionConfig(method="boldest"))
    assert ensemble.score(STORY[:9], STORY[9:20]).logprob == pytest.approx(alone, abs=1e-4)
    with pytest.raises(ConfigError, match="'num_steps', which belongs to method='relative'"):
        FusionConfig(method="boldest", num_steps=3)


@pytest.mark.usefixtures("registered")
def test_a_new_kind_of_member_can_be_named_in_a_file(tmp_path):
    file = tmp_path / "ensemble.yaml"
    file.write_text(
        "members:\n"
        f"  - {{kind: parrot, model: one, text: '{STORY}'}}\n"
        f"  - {{kind: parrot, model: two, text: '{STORY}'}}\n"
        "fusion: {method: boldest}\nweights: loser_pays\n"
    )
    with Ensemble.from_config(file) as ensemble:
        assert ensemble.member_names == ("one", "two")
        assert ensemble.generate(STORY[:9]).text == STORY[9:]
    with pytest.raises(
        ConfigError, match=r"MemberConfig\(kind='parrot'\) has no setting 'dtype', which belongs to kind="
    ):
        MemberConfig(kind="parrot", model="x", text="y", dtype="float32")


@pytest.mark.usefixtures("registered")
def test_new_weights_change_during_a_request_and_are_told_in_its_report(make_ensemble):
    settings = {"weights": {"kind": "loser_pays", "price": 0.25}, "fusion": FusionConfig(method="text")}
    ensemble = make_ensemble([], texts_of={"bpe": [STORY], "sentencepiece": ["The quick red car is fast."]}, **settings)
    ensemble.members[1].change = lambda text, logits: torch.zeros_like(logits)
    generation = ensemble.generate(STORY[:9], SamplingParams(max_new_tokens=8))
    assert generation.text and generation.fusion.weights[0] > 0.98  # a member with less rests
    assert EnsembleConfig(members=("a", "b"), weights="loser_pays").weights.price == 0.5
