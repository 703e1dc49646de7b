"""A file's own word does not let code run that comes with a model."""

from __future__ import annotations

import pytest

from deepen_llm import Ensemble, EnsembleConfig, MemberConfig
from deepen_llm.errors import ConfigError


@pytest.mark.parametrize(
    ("member", "asked"),
    [
        ("{model: a, trust_remote_code: true}", "trust_remote_code: true"),
        ("{model: a, model_kwargs: {use_safetensors: false}}", "model_kwargs.use_safetensors: False"),
        ("{model: a, model_kwargs: {use_safetensors: null}}", "model_kwargs.use_safetensors: None"),
        ("{model: a, model_kwargs: {weights_only: false}}", "model_kwargs.weights_only: False"),
        ("{model: a, model_kwargs: {use_kernels: true}}", "model_kwargs.use_kernels: True"),
        ("{model: a, attn_implementation: stranger/kernel}", "attn_implementation: 'stranger/kernel'"),
    ],
)
def test_a_file_that_asks_for_foreign_code_needs_the_word_outside(tmp_path, member, asked):
    file = tmp_path / "ensemble.yaml"
    file.write_text(f"members: [b, {member}]")
    for load in (EnsembleConfig.load, Ensemble.from_config):
        with pytest.raises(
            ConfigError, match=rf"member 'a' of .*\({asked}\).*trust_remote_code=True\).*--trust-remote"
        ):
            load(file)
    assert EnsembleConfig.load(file, trust_remote_code=True).members[1].foreign_code == (asked,)


def test_what_a_trusting_ensemble_saved_needs_the_word_again(tmp_path):
    config = EnsembleConfig(members=(MemberConfig(model="a", trust_remote_code=True),))
    config.save(tmp_path / "ensemble.yaml")
    with pytest.raises(ConfigError, match="trust_remote_code: true"):
        EnsembleConfig.load(tmp_path / "ensemble.yaml")
    assert EnsembleConfig.load(tmp_path / "ensemble.yaml", trust_remote_code=True) == config


def test_the_word_outside_makes_no_member_trusted_that_the_file_does_not_trust(tmp_path):
    (tmp_path / "ensemble.yaml").write_text("members: [a]")
    assert not EnsembleConfig.load(tmp_path / "ensemble.yaml", trust_remote_code=True).members[0].trust_remote_code


@pytest.mark.parametrize("name", ["trust_remote_code", "dtype", "revision", "model"])
def test_no_setting_comes_in_by_the_arguments_that_have_none(name):
    with pytest.raises(ConfigError, match=rf"model_kwargs holds what has no setting; '{name}' has one: write {name}="):
        MemberConfig(model="a", model_kwargs={name: True})


@pytest.mark.parametrize("extra", ["", ", device: ray"])
def test_a_file_has_only_variables_of_our_own_sent_to_the_server_that_it_names(tmp_path, extra):
    file = tmp_path / "ensemble.yaml"
    member = "{model: 'http://127.0.0.1:1', kind: server, tokenizer: one, api_key_env: %s" + extra + "}"
    file.write_text(f"members: [{member % 'AWS_SECRET_ACCESS_KEY'}]")
    with pytest.raises(ConfigError, match=r"AWS_SECRET_ACCESS_KEY, and a file may name only .* begin with DEEPEN_"):
        EnsembleConfig.load(file)
    assert EnsembleConfig.load(file, trust_remote_code=True).members[0].sent_variables == ("AWS_SECRET_ACCESS_KEY",)
    file.write_text(f"members: [{member % 'DEEPEN_BOX'}]")
    assert EnsembleConfig.load(file).members[0].sent_variables == ("DEEPEN_BOX",)
