"""Settings of relative fusion."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from deepen_llm import FusionConfig
from deepen_llm.errors import ConfigError
from deepen_llm.fusion.relative.settings import RelativeConfig
from deepen_llm.vocabulary import Vocabulary
from tests.vocabularies import load_toy


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


class Described(NamedTuple):
    vocabulary: Vocabulary


@pytest.mark.parametrize(
    ("kind", "settings", "needs_tables"),
    [
        ("gpt2", {}, False),
        ("unigram", {}, False),
        ("unigram without bytes", {}, True),
        ("gpt2", {"align_eos": False}, True),
        ("gpt2", {"maps": "all"}, True),
        ("gpt2", {"reading": "token"}, True),
    ],
)
def test_tables_are_made_where_something_can_go_through_the_anchors(monkeypatch, kind, settings, needs_tables):
    monkeypatch.setattr("deepen_llm.fusion.relative.build.build_relative", lambda config, members, main: "tables")
    found = RelativeConfig(**settings).build([Described(load_toy(kind)), Described(load_toy("llama without bytes"))], 0)
    assert (found == "tables") == needs_tables
    assert needs_tables or (found.form is None and found.num_bytes == 0)


def test_what_is_mapped_applies_to_what_was_projected_only():
    with pytest.raises(ConfigError, match="maps"):
        RelativeConfig(reading="token", maps="all")
