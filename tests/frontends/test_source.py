"""Every kind of source opens the ensemble that it names. `Ensemble` is replaced: loading has tests of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import deepen_llm.ensemble
from deepen_llm.config import EnsembleConfig, FusionConfig, MemberConfig
from deepen_llm.errors import ConfigError
from deepen_llm.frontends.source import EnsembleSource, without_paths


class Opener:
    """Stands in for `Ensemble`: says which of its constructors was called, and how."""

    def __getattr__(self, name):
        return lambda *args, **kwargs: (name, args, kwargs)


@pytest.fixture(autouse=True)
def _no_models(monkeypatch):
    monkeypatch.setattr(deepen_llm.ensemble, "Ensemble", Opener())


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "ensemble.yaml"
    path.write_text("members: [org/a, org/b]\nweights: [0.5, 0.5]\n", encoding="utf-8")
    return path


def test_a_list_is_loaded_by_name_with_its_settings():
    member, fusion = MemberConfig(model="org/c"), FusionConfig.published()
    settings = {"weights": (0.5, 0.3, 0.2), "main": "b", "fusion": fusion, "max_batch_size": 4}
    source = EnsembleSource(["org/a", Path("b"), member], **settings, member_options={"dtype": "float32"})
    assert source.open() == ("from_pretrained", (["org/a", "b", member],), {**settings, "dtype": "float32"})


@pytest.mark.parametrize("model", ["org/a", Path("org/a")])
def test_one_name_is_an_ensemble_of_one(model):
    opened = EnsembleSource(model, member_options={"dtype": "float32"}).open()
    assert opened == ("from_pretrained", (["org/a"],), {"dtype": "float32"})


def test_any_sequence_of_models_is_a_list():
    opened = EnsembleSource(("org/a", Path("b")), member_options={"dtype": "float32"}).open()
    assert opened == ("from_pretrained", (["org/a", "b"],), {"dtype": "float32"})


@pytest.mark.parametrize("model", [3, {"members": ["org/a"]}, b"starter", MemberConfig(model="org/a")], ids=str)
def test_what_names_no_models_is_refused(model):
    with pytest.raises(ConfigError, match=r"model must be a list of models, .* or \"starter\"; got .*: write one"):
        EnsembleSource(model).open()


@pytest.mark.parametrize("model", ["startr", "Starter", "starters", "start"])
def test_a_name_that_is_nearly_the_bundled_models_is_asked_about(model):
    with pytest.raises(ConfigError, match=rf"there is no model '{model}', .*: did you mean 'starter'\?"):
        EnsembleSource(model).open()


@pytest.mark.parametrize("model", ["gpt2", "bert-base-uncased", "org/startr", "./startr", Path("startr"), ["startr"]])
def test_any_other_name_is_left_to_the_hub(model):
    assert EnsembleSource(model).open()[0] == "from_pretrained"


def test_a_folder_may_have_a_name_like_the_bundled_models(tmp_path, monkeypatch):
    (tmp_path / "startr").mkdir()
    (tmp_path / "starter").mkdir()
    monkeypatch.chdir(tmp_path)
    assert EnsembleSource("startr").open() == ("from_pretrained", (["startr"],), {})
    assert EnsembleSource(Path("starter")).open() == ("from_pretrained", (["starter"],), {})


def test_starter_is_the_bundled_models():
    fusion = FusionConfig(num_steps=3)
    assert EnsembleSource("starter", fusion=fusion, main=1).open() == ("starter", (), {"fusion": fusion, "main": 1})


def test_a_file_is_read_and_settings_given_beside_it_count(config_file):
    for model in (str(config_file), config_file, EnsembleConfig.load(config_file)):
        name, (config,), settings = EnsembleSource(model, weights=(0.9, 0.1)).open()
        assert (name, settings) == ("from_config", {})
        assert [member.model for member in config.members] == ["org/a", "org/b"]
        assert config.weights == (0.9, 0.1)
        assert EnsembleSource(model).open()[1][0].weights == (0.5, 0.5)


@pytest.mark.parametrize("model", ["nowhere.yaml", Path("nowhere.yml")])
def test_a_file_that_does_not_exist_is_refused(model):
    with pytest.raises(ConfigError, match=rf"there is no configuration file at '{model}'"):
        EnsembleSource(model).open()


def test_settings_that_do_not_fit_the_configuration_are_refused(config_file):
    with pytest.raises(ConfigError, match="2 members, got 1 weights"):
        EnsembleSource(config_file, weights=(1.0,)).open()


@pytest.mark.parametrize("model", ["starter", "nowhere.yaml", EnsembleConfig(members=("org/a",))])
def test_loading_options_need_a_list_of_models(model):
    with pytest.raises(ConfigError, match=r"member_options apply to a list of models; got \['dtype'\]"):
        EnsembleSource(model, member_options={"dtype": "float32"}).open()


def test_nothing_to_open_is_refused():
    with pytest.raises(ConfigError, match=r"give model= .* or ensemble="):
        EnsembleSource().open_unless(None)


def test_an_ensemble_that_is_ready_is_taken_as_it_is():
    ready = SimpleNamespace(generate=len, chat=len, members=())
    assert EnsembleSource().open_unless(ready) is ready
    with pytest.raises(ConfigError, match=r"ensemble must be a deepen_llm.Ensemble; got str: open one first"):
        EnsembleSource().open_unless("ensemble.yaml")
    assert EnsembleSource("starter").open_unless(None) == ("starter", (), {})
    with pytest.raises(ConfigError, match="give ensemble= alone; got model, weights beside it, which it already has"):
        EnsembleSource("starter", weights=(1.0,)).open_unless(ready)


def test_paths_become_strings_wherever_they_stand():
    member = MemberConfig(model="org/c")
    assert without_paths((Path("a"), "b", member)) == ["a", "b", member]
    assert (without_paths(Path("a")), without_paths(None)) == ("a", None)


def test_importing_it_imports_no_torch():
    modules = "deepen_llm.frontends.source, deepen_llm.frontends.options"
    code = f"import sys, {modules}; print({{'torch', 'transformers'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
