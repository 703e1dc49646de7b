"""Where an ensemble comes from. The real classes are replaced: loading models is tested with the core."""

from pathlib import Path

import pytest

import deepen_llm.ensemble
from deepen_llm.config import EnsembleConfig, FusionConfig, MemberConfig
from deepen_llm.errors import ConfigError
from langchain_deepen.source import EnsembleSource


class Opener:
    """Stands in for `Ensemble`: says which of its constructors was called, and how."""

    def __getattr__(self, name):
        return lambda *args, **kwargs: (name, args, kwargs)


@pytest.fixture(autouse=True)
def _no_models(monkeypatch):
    monkeypatch.setattr(deepen_llm.ensemble, "Ensemble", Opener())


def test_a_list_is_loaded_by_name():
    member = MemberConfig(model="org/c")
    source = EnsembleSource(["org/a", Path("b"), member], weights=(0.5, 0.3, 0.2), member_options={"dtype": "float32"})
    expected = ("from_pretrained", (["org/a", "b", member],), {"weights": (0.5, 0.3, 0.2), "dtype": "float32"})
    assert source.open() == expected


def test_one_name_is_an_ensemble_of_one():
    assert EnsembleSource("org/a").open() == ("from_pretrained", (["org/a"],), {})


def test_starter_is_the_bundled_models():
    fusion = FusionConfig(num_steps=3)
    assert EnsembleSource("starter", fusion=fusion, main=1).open() == ("starter", (), {"fusion": fusion, "main": 1})


def test_a_file_is_read_and_settings_given_beside_it_count(tmp_path):
    file = tmp_path / "ensemble.yaml"
    file.write_text("members: [org/a, org/b]\nweights: [0.5, 0.5]\n", encoding="utf-8")
    for model in (str(file), file, EnsembleConfig.load(file)):
        name, (config,), _ = EnsembleSource(model, weights=(0.9, 0.1)).open()
        assert name == "from_config"
        assert [member.model for member in config.members] == ["org/a", "org/b"]
        assert config.weights == (0.9, 0.1)


def test_a_file_that_does_not_exist_is_refused():
    with pytest.raises(ConfigError, match=r"there is no configuration file at 'nowhere\.yaml'"):
        EnsembleSource("nowhere.yaml").open()


def test_loading_options_need_a_list_of_models():
    with pytest.raises(ConfigError, match=r"member_options apply to a list of models; got \['dtype'\]"):
        EnsembleSource("starter", member_options={"dtype": "float32"}).open()


def test_nothing_to_open_is_refused():
    with pytest.raises(ConfigError, match="give model="):
        EnsembleSource().open()
