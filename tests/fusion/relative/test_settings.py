"""Settings of relative fusion."""

from __future__ import annotations

import pytest

from deepen_llm import FusionConfig
from deepen_llm.errors import ConfigError
from deepen_llm.fusion.relative.settings import RelativeConfig


def test_it_is_the_fusion_unless_another_is_named():
    assert isinstance(FusionConfig(), RelativeConfig) and FusionConfig() == RelativeConfig()


def test_distributions_are_projected_unless_they_are_read_token_by_token():
    assert RelativeConfig().projects and not RelativeConfig(reading="token").projects


def test_tokens_are_told_apart_by_their_strings_where_the_anchors_are():
    assert RelativeConfig(anchors="strings").compares_strings and not RelativeConfig().compares_strings


def test_the_sampled_form_without_candidates_is_refused_with_both_ways_out():
    with pytest.raises(ConfigError, match="give max_candidates, or take form='dense'"):
        RelativeConfig(form="sampled", max_candidates=None)
    assert RelativeConfig(form="dense", max_candidates=None).max_candidates is None
