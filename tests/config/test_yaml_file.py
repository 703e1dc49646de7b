"""YAML from strangers: limits of size, depth and aliases, and errors that name the file."""

from __future__ import annotations

import pytest

from deepen_llm import EnsembleConfig
from deepen_llm.config.yaml_file import MAX_BYTES, read_mapping
from deepen_llm.errors import ConfigError


def laughs(key):
    return "".join(f"l{at}: &l{at} [{', '.join([f'*l{at - 1}'] * 9)}]\n" for at in range(1, 12)).replace(
        "l1: &l1", "l0: &l0 [x]\nl1: &l1"
    ) + (f"{key}: *l11\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (laughs("members"), "at most 100,000 values, those of aliases counted"),
        (laughs("weights"), "at most 100,000 values"),
        ("members: " + "[" * 5000 + "]" * 5000, "at most 64 levels deep; it is deeper in line 1"),
        ("a: &a [*a]", "holds 'a' within itself, in line 1"),
        ("members: [a]\nmain: 0\nmembers: [b]", "names the key 'members' twice, again in line 3: leave one out"),
        ("members: [{model: a, model: b}]", "names the key 'model' twice"),
        ("members: [é]".encode("latin-1"), "must be text in UTF-8.*save it in UTF-8"),
        (b"\x00\x01\x02\xff", "must be text in UTF-8"),
        (b"\x00\x01", "is not valid YAML"),
        ("members: [a]\n" + "#" * MAX_BYTES, "at most 1,000,000 bytes"),
        ("members: [a]\nmain: " + "9" * 5000, "is not valid YAML"),
        ("when: 2001-99-99", "is not valid YAML"),
        ("x: !!python/object/apply:os.system [true]", "is not valid YAML.*could not determine a constructor"),
        ("3", "must hold a mapping; got int"),
        ("", "must hold a mapping; got NoneType"),
    ],
)
def test_a_file_beyond_the_limits_is_refused_before_anything_is_made_of_it(tmp_path, content, message):
    file = tmp_path / "ensemble.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=rf"ensemble\.yaml' .*{message}") as caught:
        EnsembleConfig.load(file)
    assert len(str(caught.value)) <= 2000


@pytest.mark.parametrize("path", ["a" * 5000, "a\0b", ".", "nowhere.yaml"])
def test_what_is_no_file_is_refused(path):
    with pytest.raises(ConfigError, match="there is no configuration file at"):
        EnsembleConfig.load(path)


def test_a_file_that_may_not_be_read_is_refused(tmp_path, monkeypatch):
    (tmp_path / "ensemble.yaml").write_text("members: [a]")

    def refuse(*args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(ConfigError, match=r"cannot be read \(Permission denied\)"):
        EnsembleConfig.load(tmp_path / "ensemble.yaml")


@pytest.mark.parametrize(
    ("content", "owner"),
    [
        ("3: 4\nmembers: [a]", "EnsembleConfig"),
        ("members: [{3: 4, model: a}]", "MemberConfig"),
        ("members: [a, b]\nweights: {kind: prompt, 3: 4}", "WeightingConfig"),
        ("members: [a]\nfusion: {method: text, 2020-01-01: 4}", "FusionConfig"),
    ],
)
def test_a_setting_that_is_called_by_a_number_is_refused(tmp_path, content, owner):
    (tmp_path / "ensemble.yaml").write_text(content)
    with pytest.raises(ConfigError, match=rf"the settings of {owner} are called by words; got the key"):
        EnsembleConfig.load(tmp_path / "ensemble.yaml")


def test_a_few_aliases_and_a_merge_are_read(tmp_path):
    (tmp_path / "a.yaml").write_text(
        "base: &base {dtype: float32}\nmembers:\n- {<<: *base, model: a}\n- {<<: *base, model: b}\n"
    )
    values = read_mapping(tmp_path / "a.yaml", "a file")
    assert values["members"] == [{"dtype": "float32", "model": "a"}, {"dtype": "float32", "model": "b"}]


def test_keys_that_are_numbers_are_read_where_they_name_no_setting(tmp_path):
    (tmp_path / "a.yaml").write_text("members: [{model: a, model_kwargs: {max_memory: {0: 1GB, cpu: 2GB}}}]")
    assert EnsembleConfig.load(tmp_path / "a.yaml").members[0].model_kwargs["max_memory"] == {0: "1GB", "cpu": "2GB"}
