from __future__ import annotations

import logging

import pytest

from deepen_llm import Ensemble, FusionConfig, SamplingParams
from deepen_llm.errors import ConfigError, VocabularyError
from deepen_llm.fusion.relative.build import describe_spaces
from deepen_llm.fusion.relative.method import RelativeFusion
from deepen_llm.fusion.relative.rows import RowTables

STORY = "The quick brown fox jumps over the lazy dog."
SAMPLED = FusionConfig(maps="all", form="sampled")


def test_an_ensemble_answers_in_the_sampled_form_as_in_the_dense_one(make_ensemble):
    params = SamplingParams(max_new_tokens=20)
    answers = [
        make_ensemble([STORY], fusion=FusionConfig(maps="all", form=form)).generate("The quick", params).text
        for form in ("dense", "sampled")
    ]
    assert answers[0] == answers[1] != ""


def test_the_form_is_part_of_the_identity(make_ensemble):
    identities = [make_ensemble([STORY], fusion=FusionConfig(form=form)).identity for form in ("dense", "sampled")]
    assert identities[0] != identities[1]


def test_tables_are_kept_for_the_next_start(make_ensemble, tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPEN_CACHE", str(tmp_path))
    make_ensemble([STORY], fusion=SAMPLED)
    assert len(list(tmp_path.glob("relative-*.safetensors"))) == 2
    monkeypatch.setattr(RowTables, "build", None)
    assert make_ensemble([STORY], fusion=SAMPLED).fusion.form == "sampled"


def test_a_damaged_file_is_built_anew_and_without_a_folder_it_works(make_ensemble, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("DEEPEN_CACHE", str(tmp_path))
    make_ensemble([STORY], fusion=SAMPLED)
    for file in tmp_path.iterdir():
        file.write_bytes(file.read_bytes()[:-7])
    with caplog.at_level(logging.WARNING):
        make_ensemble([STORY], fusion=SAMPLED)
    assert "made again" in caplog.text
    monkeypatch.setenv("DEEPEN_CACHE", "off")
    assert isinstance(make_ensemble([STORY], fusion=SAMPLED).fusion, RelativeFusion)


def test_spaces_take_no_more_anchors_than_asked_and_refuse_too_few(make_ensemble):
    members = make_ensemble([STORY]).members
    assert all(len(space.anchor_ids) == 70 for space in describe_spaces(members, FusionConfig(max_anchors=70)))
    with pytest.raises(VocabularyError, match="share at least 5000 tokens"):
        describe_spaces(members, FusionConfig(min_common_tokens=5000))


def test_weights_by_prompt_are_named_in_the_identity_with_their_temperature(make_ensemble):
    identity = make_ensemble([STORY], weights="prompt").identity
    assert identity["weights"] == {"kind": "prompt", "temperature": 0.2}
    assert make_ensemble([STORY], weights={"kind": "prompt", "temperature": 0.4}).identity != identity
    assert make_ensemble([STORY], weights=(0.5, 0.5)).identity["weights"] == [0.5, 0.5]
    assert make_ensemble([STORY], weights=None).identity["weights"]["kind"] == "adaptive"


@pytest.mark.parametrize("members", [None, "model", 3, [None], ["model"], {"a": 1}])
def test_what_is_no_list_of_loaded_members_is_refused(members):
    with pytest.raises(ConfigError, match=r"^members must be"):
        Ensemble(members)


@pytest.mark.parametrize("config", [0, "", [], {"members": ["a"]}, "ensemble.yaml"])
def test_what_is_no_configuration_is_refused_also_where_it_is_empty(make_ensemble, config):
    with pytest.raises(ConfigError, match=r"^config must be an EnsembleConfig; got a"):
        Ensemble(make_ensemble([STORY]).members, config)
