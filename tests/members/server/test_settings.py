"""Settings of members behind a server: addresses, and keys that are shown and saved nowhere."""

from __future__ import annotations

import pickle
import traceback

import pytest

from deepen_llm import EnsembleConfig, MemberConfig
from deepen_llm.errors import ConfigError, MemberError
from deepen_llm.members.server.settings import ServerConfig

KEY = "k3y-of-somebody"
ADDRESS = "http://127.0.0.1:8080"


@pytest.mark.parametrize("typed", [ADDRESS, ADDRESS + "/", ADDRESS + "/v1", ADDRESS + "/v1/"])
def test_an_address_is_the_kind_and_is_taken_as_other_clients_write_it(typed):
    config = MemberConfig(model=typed)
    assert isinstance(config, ServerConfig) and config.model == ADDRESS


def test_a_path_of_a_proxy_stays():
    assert MemberConfig(model="https://host.example/llm/v1").model == "https://host.example/llm"


@pytest.mark.parametrize("typed", ["http://", "http://host:99999", "http://host/?q=1", "http://[1", "http://h:0"])
def test_what_is_no_address_is_refused(typed):
    with pytest.raises(ConfigError, match=r"must be the address of a server, such as http://127.0.0.1:8080"):
        MemberConfig(model=typed)
    with pytest.raises(ConfigError, match="must be the address"):
        MemberConfig(model="some/folder", kind="server")


@pytest.mark.parametrize("user", ["me:s3cret@", "s3cret@", "s3cret:@", "me:s3cret@[:"])
def test_a_password_in_an_address_is_refused_and_repeated_nowhere(user):
    member = {"model": f"http://{user}host:8080"}
    for make in (lambda: MemberConfig(**member), lambda: EnsembleConfig(members=[member])):
        with pytest.raises(ConfigError, match=r"must not hold a user or a password.*api_key_env") as refused:
            make()
        assert "s3cret" not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize("wrong", [{"timeout_s": -1}, {"top": 0}, {"dialect": "ollama"}, {"apikey": 1}])
def test_a_key_is_not_repeated_where_another_setting_is_wrong(wrong):
    member = {"model": ADDRESS, "api_key": KEY, **wrong}
    for make in (lambda: MemberConfig(**member), lambda: EnsembleConfig(members=[member])):
        with pytest.raises(ConfigError) as refused:
            make()
        assert KEY not in "".join(traceback.format_exception(refused.value))


def test_a_key_that_is_no_text_is_not_repeated():
    number = "1234567"
    with pytest.raises(ConfigError, match="api_key must be a text; got a int") as refused:
        MemberConfig(model=ADDRESS, api_key=int(number))
    assert number not in "".join(traceback.format_exception(refused.value))


def test_a_key_is_neither_shown_nor_saved(tmp_path):
    config = EnsembleConfig(members=["org/main", MemberConfig(model=ADDRESS, api_key=KEY, name="remote")])
    config.save(tmp_path / "ensemble.yaml")
    written = (tmp_path / "ensemble.yaml").read_text()
    shown = repr(config) + str(config.members[1]) + config.model_dump_json() + str(config.model_dump())
    assert KEY not in written + shown and "api_key" not in written
    assert EnsembleConfig.load(tmp_path / "ensemble.yaml").members[1].key is None


def test_a_key_goes_with_a_copy_of_the_settings():
    config = MemberConfig(model=ADDRESS, api_key=KEY).replace(name="other")
    assert config.key.get_secret_value() == KEY
    assert pickle.loads(pickle.dumps(config)).key.get_secret_value() == KEY


def test_a_file_names_the_variable_that_holds_the_key(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPEN_SOME_KEY", KEY)
    EnsembleConfig(members=[MemberConfig(model=ADDRESS, api_key_env="DEEPEN_SOME_KEY")]).save(
        tmp_path / "ensemble.yaml"
    )
    config = EnsembleConfig.load(tmp_path / "ensemble.yaml").members[0]
    assert config.key.get_secret_value() == KEY
    monkeypatch.delenv("DEEPEN_SOME_KEY")
    with pytest.raises(ConfigError, match=r"'DEEPEN_SOME_KEY' must name an environment variable.*not set: export it"):
        _ = config.key


def test_one_key_is_given_and_one_that_a_header_can_hold(monkeypatch):
    with pytest.raises(ConfigError, match="either api_key or api_key_env"):
        _ = MemberConfig(model=ADDRESS, api_key=KEY, api_key_env="DEEPEN_SOME_KEY").key
    monkeypatch.setenv("DEEPEN_SOME_KEY", f"{KEY}\r\nX-Other: 1")
    with pytest.raises(ConfigError, match="must be printable ASCII") as refused:
        _ = MemberConfig(model=ADDRESS, api_key_env="DEEPEN_SOME_KEY").key
    assert KEY not in str(refused.value)


@pytest.mark.parametrize(
    ("address", "is_open"),
    [
        ("http://10.0.0.1:80", True),
        ("https://10.0.0.1", False),
        ("http://localhost:1", False),
        ("http://[::1]:1", False),
    ],
)
def test_a_key_that_anybody_can_read_on_its_way_is_warned_of(address, is_open, caplog):
    config = MemberConfig(model=address, api_key=KEY, timeout_s=0.01)
    with pytest.raises(MemberError):
        config.load()
    assert ("in the open: use https://" in caplog.text) == is_open and KEY not in caplog.text


def test_a_tokenizer_beside_the_file_is_found(tmp_path):
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "ensemble.yaml").write_text(f"members:\n- model: {ADDRESS}\n  tokenizer: tokenizer\n")
    config = EnsembleConfig.load(tmp_path / "ensemble.yaml").members[0]
    assert config.tokenizer == str(tmp_path / "tokenizer") and config.model == ADDRESS
