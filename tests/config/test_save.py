from __future__ import annotations

from deepen_llm import EnsembleConfig, FusionConfig, MemberConfig


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
