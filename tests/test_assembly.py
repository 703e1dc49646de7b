from __future__ import annotations

import logging
from pathlib import Path

import pytest

from deepen_llm import Ensemble, EnsembleConfig, FusionConfig, MemberConfig, SamplingParams
from deepen_llm.assembly import read_members
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


def test_one_model_needs_no_list_and_paths_are_names():
    one = (MemberConfig(model="a", dtype="float32"),)
    for models in ("a", Path("a"), ["a"], (Path("a"),), iter(["a"])):
        assert read_members(models, {"dtype": "float32"}) == one
    assert read_members(one[0], {}) == read_members(list(one), {}) == one


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (None, "models must be a list of folders, hub names or MemberConfig; got None"),
        (3, "got 3"),
        (b"a", "got b'a'"),
        ({"a": 1}, "got {'a': 1}"),
        (MemberConfig, "got <class"),
        ([None], "MemberConfig.model: Input should be a valid string; got None"),
        ([MemberConfig], "MemberConfig.model: Input should be a valid string; got <class"),
        ("ensemble.yaml", r"a model is no configuration; got 'ensemble.yaml': write Ensemble.from_config\(path\)"),
        ([], "an ensemble needs at least one member; got none"),
    ],
)
def test_what_names_no_models_is_refused(models, message):
    with pytest.raises(ConfigError, match=message):
        Ensemble.from_pretrained(models)


def test_options_that_no_member_would_take_are_refused():
    with pytest.raises(ConfigError, match="got dtype and only MemberConfig: write them into each MemberConfig"):
        Ensemble.from_pretrained([MemberConfig(model="a")], dtype="float32")


@pytest.mark.parametrize("config", [None, 3, {"members": ["a"]}, EnsembleConfig, b"a.yaml"])
def test_what_is_no_configuration_is_refused(config):
    with pytest.raises(ConfigError, match=r"config must be an EnsembleConfig or the path of an ensemble.yaml; got "):
        Ensemble.from_config(config)
