from __future__ import annotations

import errno
from pathlib import Path

import pytest

from deepen_llm import EnsembleConfig, FusionConfig, MemberConfig
from deepen_llm.errors import ConfigError


def test_what_is_written_is_read_back(tmp_path):
    members = (MemberConfig(model="org/one", dtype="float16", chat_template="{{ 'ü' }}\n"), MemberConfig(model="two"))
    config = EnsembleConfig(
        members=members,
        main=1,
        weights=(0.1, 0.9),
        fusion=FusionConfig.published(trust=0.75),
        max_batch_size=7,
    )
    config.save(tmp_path / "ensemble.yaml", "first line\nsecond line")
    assert EnsembleConfig.load(tmp_path / "ensemble.yaml") == config
    assert (tmp_path / "ensemble.yaml").read_text().startswith("# first line\n# second line\nmembers:\n")


def test_a_folder_is_found_from_wherever_the_file_lies(tmp_path, monkeypatch):
    (tmp_path / "models" / "one").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    config = EnsembleConfig(members=(MemberConfig(model="models/one", tokenizer="models/one"),))
    config.save(tmp_path / "elsewhere" / "ensemble.yaml")
    member = EnsembleConfig.load("elsewhere/ensemble.yaml").members[0]
    assert member.model == member.tokenizer == str((tmp_path / "models" / "one").resolve())


def test_every_setting_of_the_fusion_is_written(tmp_path):
    EnsembleConfig(members=("one",)).save(tmp_path / "ensemble.yaml")
    text = (tmp_path / "ensemble.yaml").read_text()
    assert all(f"  {name}:" in text for name in FusionConfig.model_fields)


def test_weights_by_prompt_are_read_back(tmp_path):
    config = EnsembleConfig(members=("one", "two"), weights={"kind": "prompt", "temperature": 0.25})
    config.save(tmp_path / "ensemble.yaml")
    assert EnsembleConfig.load(tmp_path / "ensemble.yaml") == config


def test_a_link_keeps_the_name_that_the_member_goes_by(tmp_path, monkeypatch):
    (tmp_path / "blobs" / "4f2a").mkdir(parents=True)
    (tmp_path / "small").symlink_to(tmp_path / "blobs" / "4f2a")
    monkeypatch.chdir(tmp_path)
    EnsembleConfig(members=("small", "other"), main="small").save("ensemble.yaml")
    assert EnsembleConfig.load("ensemble.yaml").members[0].model == str(tmp_path.resolve() / "small")


def test_a_folder_named_from_within_or_from_above_is_written_by_its_own_name(tmp_path, monkeypatch):
    (tmp_path / "one" / "inner").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "one" / "inner")
    EnsembleConfig(members=(".", "..")).save(tmp_path / "ensemble.yaml")
    names = [member.model for member in EnsembleConfig.load(tmp_path / "ensemble.yaml").members]
    assert names == [str((tmp_path / "one" / "inner").resolve()), str((tmp_path / "one").resolve())]


def test_every_setting_of_a_quantization_is_written(tmp_path):
    from transformers import BitsAndBytesConfig

    quantization = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype="bfloat16")
    EnsembleConfig(members=(MemberConfig(model="one", quantization_config=quantization),)).save(tmp_path / "a.yaml")
    loaded = EnsembleConfig.load(tmp_path / "a.yaml").members[0].quantization_config
    assert loaded == quantization.to_dict()
    assert loaded["bnb_4bit_quant_type"] == "nf4" and loaded["bnb_4bit_compute_dtype"] == "bfloat16"


def test_an_adapter_and_a_tokenizer_are_found_beside_the_file_and_written_in_full(tmp_path):
    for name in ("adapter", "tokens"):
        (tmp_path / name).mkdir()
    (tmp_path / "a.yaml").write_text("members: [{model: org/one, adapter: adapter, tokenizer: tokens}, org/two]")
    config = EnsembleConfig.load(tmp_path / "a.yaml")
    (tmp_path / "elsewhere").mkdir()
    config.save(tmp_path / "elsewhere" / "b.yaml")
    for member in (config.members[0], EnsembleConfig.load(tmp_path / "elsewhere" / "b.yaml").members[0]):
        assert member.adapter == str((tmp_path / "adapter").resolve())
        assert member.tokenizer == str((tmp_path / "tokens").resolve())


def test_a_setting_that_no_file_can_hold_is_refused_and_nothing_is_written(tmp_path):
    config = EnsembleConfig(members=(MemberConfig(model="org/one", model_kwargs={"hook": object()}), "two"))
    with pytest.raises(ConfigError, match=r"a setting of member 'org/one' is something else"):
        config.save(tmp_path / "ensemble.yaml")
    assert not (tmp_path / "ensemble.yaml").exists()


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"No such file or directory.*nowhere/ensemble\.yaml"):
        EnsembleConfig(members=("one",)).save(tmp_path / "nowhere" / "ensemble.yaml")
    with pytest.raises(ConfigError, match="Is a directory"):
        EnsembleConfig(members=("one",)).save(tmp_path)


def test_what_is_shown_is_what_is_written(tmp_path):
    config = EnsembleConfig(members=("one", "two"))
    config.save(tmp_path / "ensemble.yaml", "why\n\nand how")
    assert (tmp_path / "ensemble.yaml").read_text() == config.to_yaml("why\n\nand how")
    assert config.to_yaml("why\n\nand how").startswith("# why\n#\n# and how\nmembers:\n")


def test_a_full_disk_leaves_the_file_that_was_there(tmp_path, monkeypatch):
    def fill_up(path, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    file = tmp_path / "ensemble.yaml"
    file.write_text("members: [mine]\n")
    monkeypatch.setattr(Path, "write_bytes", fill_up)
    with pytest.raises(ConfigError, match="No space left on device"):
        EnsembleConfig(members=("one",)).save(file)
    assert file.read_text() == "members: [mine]\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["ensemble.yaml"]
