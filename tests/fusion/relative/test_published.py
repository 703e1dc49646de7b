"""The published form computes what the released code does."""

from __future__ import annotations

from pathlib import Path

import pytest

from deepen_llm import Ensemble, FusionConfig, SamplingParams
from deepen_llm.errors import ConfigError
from deepen_llm.fusion.relative import build

MODELS = Path(__file__).parents[4] / "shared" / "models"
PROMPT = "Once upon a time, there was a little girl named Lily. She"
RELEASED = {" lo": 0.7098, " had": 0.1040, " was": 0.1002}
"""What the released code gives with weights 0.5 and 0.5 and rate 0.15, to four places."""


@pytest.mark.lengthy
@pytest.mark.skipif(not MODELS.is_dir(), reason="needs the story models beside the checkout, in ../shared/models")
def test_the_first_step_is_that_of_the_released_code():
    models = [str(MODELS / "stories260K"), str(MODELS / "babyllama-tok361")]
    with Ensemble.from_pretrained(models, weights=(0.5, 0.5), fusion=FusionConfig.published()) as ensemble:
        best = ensemble.generate(PROMPT, SamplingParams(max_new_tokens=1, logprobs=3)).logprobs[0].top
    assert {candidate.text: candidate.prob for candidate in best} == pytest.approx(RELEASED, abs=5e-5)


def test_anchors_are_entries_that_are_equal_as_strings(make_ensemble):
    # Special tokens of both are among them; a space is written in two ways and none of its tokens is.
    byte_level, sentencepiece = make_ensemble(["a"], fusion=FusionConfig.published(min_common_tokens=1)).members
    spaces = build.describe_spaces([byte_level, sentencepiece], FusionConfig.published(min_common_tokens=1))
    strings = [
        {member.vocabulary.pieces[token_id] for token_id in space.anchor_ids.tolist()}
        for member, space in zip((byte_level, sentencepiece), spaces, strict=True)
    ]
    assert strings[0] == strings[1] and len(strings[0]) == len(spaces[0].anchor_ids)
    assert strings[0] == set(byte_level.vocabulary.pieces) & set(sentencepiece.vocabulary.pieces) - {None}


def test_matrices_that_do_not_fit_into_memory_are_refused_with_their_size_and_a_way_out(make_ensemble, monkeypatch):
    monkeypatch.setattr(build, "_free_bytes", lambda device: 1_000_000)
    message = r"take 0\.\d GB.*cpu has 0\.0 GB free: take FusionConfig\(form='sampled', max_candidates=32\)"
    with pytest.raises(ConfigError, match=message):
        make_ensemble(["a"], fusion=FusionConfig.published(min_common_tokens=1))
