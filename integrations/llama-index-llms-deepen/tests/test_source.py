"""What is given to the constructor reaches the source that it opens; what that opens is tested with the core."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deepen_llm import Ensemble, EnsembleConfig, FusionConfig, MemberConfig
from llama_index.llms.deepen import DeepenLLM


@pytest.fixture
def opened(ensemble, monkeypatch):
    """What the constructors of `Ensemble` were called with: name, argument, settings."""
    calls = []
    for name in ("from_pretrained", "from_config", "starter"):

        def record(*arguments, _name=name, **settings):
            calls.append((_name, *arguments, settings))
            return ensemble

        monkeypatch.setattr(Ensemble, name, record)
    return calls


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "ensemble.yaml"
    path.write_text("members: [org/a, org/b]\nweights: [0.5, 0.5]\n", encoding="utf-8")
    return path


def test_a_list_of_models_is_loaded_with_its_settings(opened):
    fusion = FusionConfig.published()
    models = ["org/a", Path("models/b"), MemberConfig(model="org/c", dtype="float32")]
    DeepenLLM(
        models, weights=[0.5, 0.25, 0.25], main="a", fusion=fusion, max_batch_size=4, member_options={"dtype": "auto"}
    )
    names = ["org/a", str(Path("models/b")), models[2]]
    settings = {"weights": (0.5, 0.25, 0.25), "main": "a", "fusion": fusion, "max_batch_size": 4, "dtype": "auto"}
    assert opened == [("from_pretrained", names, settings)]


def test_weights_can_be_found_for_each_prompt(opened):
    DeepenLLM(["org/a", "org/b"], weights="prompt")
    assert opened == [("from_pretrained", ["org/a", "org/b"], {"weights": "prompt"})]


@pytest.mark.parametrize("as_type", [str, Path])
def test_a_file_is_read_and_settings_go_on_top(opened, config_file, as_type):
    DeepenLLM(model=as_type(config_file), weights=[0.75, 0.25])
    ((name, config, settings),) = opened
    assert (name, config.weights, settings) == ("from_config", (0.75, 0.25), {})
    assert [member.model for member in config.members] == ["org/a", "org/b"]


def test_a_configuration_is_taken_as_it_is(opened, config_file):
    config = EnsembleConfig.load(config_file)
    DeepenLLM(model=config)
    assert opened == [("from_config", config, {})]


def test_a_model_is_kept_in_a_form_that_can_be_stored(opened):
    llm = DeepenLLM(("org/a", Path("models/b")))
    assert json.loads(llm.to_json())["model"] == ["org/a", str(Path("models/b"))]


def test_closing_frees_an_ensemble_that_was_loaded_here(opened, ensemble):
    DeepenLLM(model=["org/a", "org/b"]).close()
    assert ensemble.is_closed


def test_observers_are_told_no_loading_options(opened):
    llm = DeepenLLM(model=["org/a"], member_options={"token": "secret"})
    assert "secret" not in json.dumps(llm.to_payload())
    assert "secret" not in repr(llm)
