"""Kinds of member: settings of their own, a class each, named by `kind`."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

from deepen_llm.config import EnsembleConfig, MemberConfig
from deepen_llm.config.members import KINDS
from deepen_llm.errors import ConfigError
from deepen_llm.members.transformers.settings import TransformersConfig


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_names_a_class_of_settings_that_can_load_a_member(kind):
    module, _, name = KINDS[kind].partition(":")
    settings = getattr(import_module(module), name)
    assert issubclass(settings, MemberConfig)
    assert settings.model_fields["kind"].default == kind
    assert settings.load is not MemberConfig.load
    place = "http://127.0.0.1:8080" if kind == "server" else "some/model"
    assert type(MemberConfig(kind=kind, model=place)) is settings


def test_a_model_alone_is_a_member_that_transformers_runs():
    assert MemberConfig(model="gpt2") == TransformersConfig(model="gpt2")
    assert MemberConfig(model="gpt2").kind == "transformers"


@pytest.mark.parametrize("kind", ["tensorflow", None, 3])
def test_an_unknown_kind_is_refused_with_the_known_ones(kind):
    known = ", ".join(map(repr, KINDS))
    with pytest.raises(ConfigError, match=f"^MemberConfig.kind must be one of {known}; got {kind!r}$"):
        MemberConfig(kind=kind, model="gpt2")


def test_a_setting_of_another_kind_is_refused_with_the_kind_it_belongs_to(monkeypatch):
    monkeypatch.setitem(MemberConfig.variants, "parrot", "tests.extensions:ParrotConfig")
    with pytest.raises(ConfigError, match=r"MemberConfig\(kind='transformers'\) has no setting 'text', which belongs"):
        MemberConfig(model="gpt2", text="Hello")
    with pytest.raises(ConfigError, match=r"MemberConfig\(kind='parrot'\) has no setting 'revision', which belongs"):
        MemberConfig(kind="parrot", model="gpt2", text="Hello", revision="main")


def test_a_setting_that_no_kind_has_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="has no setting 'chat_templte': did you mean 'chat_template'"):
        MemberConfig(model="gpt2", chat_templte="plain")


def test_a_member_of_another_kind_keeps_what_both_kinds_have(monkeypatch):
    monkeypatch.setitem(MemberConfig.variants, "parrot", "tests.extensions:ParrotConfig")
    config = MemberConfig(model="gpt2", name="mine", dtype="float32").replace(kind="parrot", text="Hello")
    assert config.model_dump(exclude_unset=True) == {"model": "gpt2", "name": "mine", "kind": "parrot", "text": "Hello"}


def test_a_file_may_name_kinds(tmp_path):
    file = tmp_path / "ensemble.yaml"
    file.write_text("members: [{kind: transformers, model: one, dtype: float32}, two]\n")
    assert [config.kind for config in EnsembleConfig.load(file).members] == ["transformers", "transformers"]
    file.write_text("members: [{kind: nothing, model: one}]\n")
    with pytest.raises(ConfigError, match=r"must be one of 'transformers'.*; got 'nothing'"):
        EnsembleConfig.load(file)


def test_settings_need_neither_torch_nor_transformers():
    code = (
        "import sys; from deepen_llm.config import MemberConfig; MemberConfig(model='gpt2'); "
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
