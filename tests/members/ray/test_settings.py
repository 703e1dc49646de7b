"""Settings of a member in an actor: its own, and those of the member that it holds."""

from __future__ import annotations

import pickle
import subprocess
import sys
from types import SimpleNamespace
from typing import Literal

import pytest
import torch
from pydantic import Field, SecretStr

from deepen_llm.config import EnsembleConfig, MemberConfig
from deepen_llm.errors import ConfigError
from deepen_llm.members.ray.settings import RayConfig
from deepen_llm.members.transformers.settings import TransformersConfig


def test_device_ray_makes_any_member_one_in_an_actor():
    config = MemberConfig(model="org/one", device="ray", dtype="float32", name="mine", temperature=2.0)
    assert type(config) is RayConfig
    assert config.held == TransformersConfig(model="org/one", dtype="float32", name="mine")


def test_a_kind_beside_device_ray_is_that_of_the_member_in_the_actor():
    config = MemberConfig(model="org/one", kind="transformers", device="ray", revision="abc")
    assert (config.kind, config.holds) == ("ray", "transformers")
    assert config.held == TransformersConfig(model="org/one", revision="abc", kind="transformers")


def test_the_place_of_the_model_tells_the_kind_that_is_held(monkeypatch):
    monkeypatch.setitem(MemberConfig.variants, "gguf", "tests.extensions:ParrotConfig")
    assert MemberConfig(model="one.gguf", device="ray", text="Hello").held.text == "Hello"


def test_an_actor_with_gpus_puts_its_model_there_unless_it_is_placed_otherwise():
    base = {"model": "org/one", "device": "ray"}
    assert MemberConfig(**base).held.device is None
    assert MemberConfig(**base, num_gpus=1).held.device == "cuda"
    assert MemberConfig(**base, num_gpus=1, actor_device="cpu").held.device == "cpu"
    spread = MemberConfig(**base, num_gpus=2, device_map="auto").held
    assert (spread.device, spread.device_map) == (None, "auto")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dtyp": "float32"}, r"MemberConfig\(kind='transformers'\) has no setting 'dtyp': did you mean 'dtype'\?"),
        ({"num_gpu": 1}, "there is no setting 'num_gpu': did you mean 'num_gpus'"),
        ({"dtype": "float31"}, "a model's number format is one of .*did you mean 'float32'.*got 'float31'"),
        ({"actor_device": "cuda", "device_map": "auto"}, "give either device or device_map"),
        ({"kind": "transformers", "holds": "gguf"}, "kind='transformers' and holds='gguf' are two kinds"),
        ({"kind": None}, r"MemberConfig.kind: Input should be 'ray'; got None"),
        ({"holds": "ray"}, "holds must be a kind other than 'ray'"),
        ({"holds": "nothing"}, "must be one of .*got 'nothing'"),
        ({"resources": {"GPU": 1}}, "resources: GPU has a setting of its own: write num_gpus=1"),
        ({"resources": {"far": -1}}, "must be a finite number, not negative"),
        ({"resources": {"far": float("nan")}}, "must be a finite number, not negative"),
        ({"num_cpus": -1}, "num_cpus: .*greater than or equal to 0"),
        ({"num_gpus": float("inf")}, "num_gpus: .*finite"),
        ({"top": 0}, "top: .*greater than or equal to 1"),
        ({"timeout_s": 0}, "timeout_s: .*greater than 0"),
        ({"address": "somewhere"}, "address: the address of a Ray cluster is 'host:port'.*got 'somewhere'"),
        ({"address": "host:99999"}, "address: Port out of range"),
        ({"address": "ray://host:10001"}, "must run on a machine of the cluster"),
        ({"address": "host:6379/path"}, "address: the address of a Ray cluster is 'host:port'"),
        ({"address": "http://host:6379"}, "address: the address of a Ray cluster is 'host:port'"),
        ({"on_member_failure": "ignore"}, "on_member_failure: .*'restart' or 'fail'"),
        ({"on_member_failure": "fail", "max_restarts": 2}, "max_restarts=2 means nothing with on_member_failure="),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused_by_name(settings, message):
    with pytest.raises(ConfigError, match=message):
        MemberConfig(model="org/one", device="ray", **settings)


def test_another_device_of_a_member_in_an_actor_is_refused():
    with pytest.raises(ConfigError, match=r"MemberConfig.device: Input should be 'ray'; got 'cuda'"):
        MemberConfig(model="org/one", kind="ray", device="cuda")


def test_a_setting_of_the_actor_is_refused_of_a_member_in_this_process():
    with pytest.raises(ConfigError, match="has no setting 'num_gpus', which belongs to kind='ray'"):
        MemberConfig(model="org/one", num_gpus=1)


@pytest.mark.parametrize("address", ["auto", "local", "10.0.0.1:6379", "head:6379", "[::1]:6379"])
def test_addresses_that_ray_knows_are_taken(address):
    assert MemberConfig(model="org/one", device="ray", address=address).address == address


def test_a_file_keeps_every_setting(tmp_path):
    member = {"model": "org/two", "device": "ray", "dtype": torch.float16, "resources": {"far": 0.5}, "holds": None}
    config = EnsembleConfig(members=("org/one", member))
    config.save(tmp_path / "ensemble.yaml")
    again = EnsembleConfig.load(tmp_path / "ensemble.yaml")
    assert again == config
    assert again.members[1].held.dtype == "float16"


class SecretConfig(MemberConfig):
    kind: Literal["secret"] = "secret"
    key: SecretStr = Field(SecretStr(""), exclude=True)
    password: str = Field("", exclude=True, repr=False)


def test_secrets_of_the_member_in_the_actor_are_neither_shown_nor_written(monkeypatch):
    monkeypatch.setitem(MemberConfig.variants, "secret", f"{__name__}:SecretConfig")
    monkeypatch.setitem(sys.modules, __name__, SimpleNamespace(SecretConfig=SecretConfig))
    config = MemberConfig(model="one", kind="secret", device="ray", key="abc1", password="abc2")
    assert (config.held.key.get_secret_value(), config.held.password) == ("abc1", "abc2")
    written = EnsembleConfig(members=(config,)).to_yaml()
    assert "abc" not in repr(config) + str(config) + written and "holds: secret" in written


def test_settings_can_be_replaced_and_pickled():
    config = MemberConfig(model="org/one", device="ray", dtype="float32").replace(name="other", top=10)
    assert (config.held.name, config.held.dtype, config.top) == ("other", "float32", 10)
    assert pickle.loads(pickle.dumps(config)) == config


def test_foreign_code_of_the_member_in_the_actor_is_named():
    assert MemberConfig(model="org/one", device="ray").foreign_code == ()
    config = MemberConfig(model="org/one", device="ray", trust_remote_code=True)
    assert config.foreign_code == ("trust_remote_code: true",)


def test_settings_need_neither_ray_nor_torch():
    code = (
        "import sys; from deepen_llm.config import MemberConfig; MemberConfig(model='one', device='ray'); "
        "assert 'torch' not in sys.modules and 'ray' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
