from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from deepen_llm import EnsembleConfig
from deepen_llm.cli.app import app

STORIES = [f"the {animal} sat on the {place}." for animal in ("cat", "dog", "fox") for place in ("mat", "bed", "box")]
KINDS = ("bpe", "sentencepiece")


def write_rows(path, count=36):
    words = ["cat", "dog", "fox"]
    rows = [
        {"prompt": f"the {words[i % 3]} sat", "answer": f"on the {['mat', 'bed', 'box'][i % 2]}"} for i in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def members(use_ensemble, make_ensemble):
    ensemble = make_ensemble(STORIES, KINDS, weights=None)
    use_ensemble(ensemble)
    return ensemble


def run(deepen, tmp_path, *arguments):
    return deepen("calibrate", *arguments, "-m", "one", "-m", "two", "--out", tmp_path / "ensemble.yaml")


def test_a_choice_is_shown_and_written_to_a_file_that_loads(deepen, tmp_path, members):
    result = run(deepen, tmp_path, write_rows(tmp_path / "set.jsonl"), "--step", "0.5")
    assert result.exit_code == 0, result.output
    assert "set.jsonl: 36 rows" in result.stdout and "What was tried" in result.stdout
    assert "Chosen: main model" in result.stdout and "defaults" in result.stdout
    config = EnsembleConfig.load(tmp_path / "ensemble.yaml")
    assert [member.model for member in config.members] == list(KINDS)
    assert sum(config.weights.prior) == pytest.approx(1)
    assert config.weights.kind == "adaptive"
    assert "# Chosen by deepen calibrate on set.jsonl (36 rows)." in (tmp_path / "ensemble.yaml").read_text()


def test_the_same_file_gives_the_same_choice(deepen, tmp_path, use_ensemble, make_ensemble):
    file = write_rows(tmp_path / "set.jsonl")
    written = []
    for name in ("a.yaml", "b.yaml"):
        use_ensemble(make_ensemble(STORIES, KINDS, weights=None))
        result = deepen("calibrate", file, "-m", "one", "-m", "two", "-o", tmp_path / name, "--step", "0.5")
        assert result.exit_code == 0, result.output
        written.append((tmp_path / name).read_text())
    assert written[0] == written[1]


def test_a_text_is_a_development_set_too(deepen, tmp_path, members):
    (tmp_path / "story.txt").write_text(" ".join(STORIES * 40))
    result = run(deepen, tmp_path, tmp_path / "story.txt", "--uniform")
    assert result.exit_code == 0, result.output
    assert "scored by the bits per byte of the answers" in result.stdout


def test_too_small_a_set_is_refused_and_nothing_is_written(deepen, tmp_path, members):
    result = run(deepen, tmp_path, write_rows(tmp_path / "set.jsonl", 3))
    assert result.exit_code == 1
    assert "set.jsonl has 3 of them" in result.stderr and "wide" in result.stderr and "--uniform" in result.stderr
    assert not (tmp_path / "ensemble.yaml").exists()


def test_uniform_weights_are_written_where_asked_for(deepen, tmp_path, members):
    result = run(deepen, tmp_path, write_rows(tmp_path / "set.jsonl", 3), "--uniform")
    assert result.exit_code == 0, result.output
    assert "as asked for: nothing was chosen" in result.stdout
    assert EnsembleConfig.load(tmp_path / "ensemble.yaml").weights.prior == (0.5, 0.5)


def test_fixed_weights_are_written_where_asked_for(deepen, tmp_path, members):
    result = run(deepen, tmp_path, write_rows(tmp_path / "set.jsonl"), "--fixed", "--step", "0.5")
    assert result.exit_code == 0, result.output
    assert "weights, %" in result.stdout and "eta" not in result.stdout
    assert sum(EnsembleConfig.load(tmp_path / "ensemble.yaml").weights) == pytest.approx(1)


def test_temperatures_are_fitted_shown_and_written(deepen, tmp_path, members):
    """One member knows the texts, the other is far too sure of others."""
    sure = members.members[1]
    sure.texts, sure.confidence = [b"nothing of this kind"], 12.0
    result = run(deepen, tmp_path, write_rows(tmp_path / "set.jsonl"), "--step", "0.5")
    assert result.exit_code == 0, result.output
    assert "temperature" in result.stdout and "saved, 95%" in result.stdout and "tempered" in result.stdout
    EnsembleConfig.load(tmp_path / "ensemble.yaml")


def test_questions_are_asked_in_a_chat(deepen, tmp_path, members):
    rows = [
        {"messages": [{"role": "user", "content": f"say {word}"}], "answer": word}
        for word in [f"the {animal} {number}" for animal in ("cat", "dog", "fox") for number in range(11)]
    ]
    (tmp_path / "set.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = run(deepen, tmp_path, tmp_path / "set.jsonl", "--chat", "--step", "0.5")
    assert result.exit_code == 0, result.output
    assert "set.jsonl: 33 rows" in result.stdout
    fed = next(iter(members.members[0].passes[0].values()))
    assert fed[: len(fed)] == list(members.members[0].vocabulary.encode_chat(rows[0]["messages"]).ids)


def test_at_80_columns_neither_names_nor_figures_are_cut(use_ensemble, make_ensemble, tmp_path):
    ensemble = make_ensemble(STORIES, ("bpe", "sentencepiece", "unigram"), weights=None)
    names = ["a-main-model-with-a-long-name-70B-instruct", "another-one-that-is-long-as-well-8B", "tiny"]
    for member, name in zip(ensemble.members, names, strict=True):
        member.name = name
    ensemble.members[1].confidence = 14.0
    use_ensemble(ensemble)
    narrow = CliRunner(env={"COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"})
    file, written = write_rows(tmp_path / "set.jsonl"), tmp_path / "ensemble.yaml"
    arguments = ["calibrate", file, "-m", "1", "-m", "2", "-m", "3", "-o", written, "--step", "0.33333333"]
    result = narrow.invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    assert "…" not in result.stdout and all(len(line) <= 80 for line in result.stdout.splitlines())
    rows = [line for line in result.stdout.splitlines() if line[:1].isdigit() and line.rstrip().endswith("%")]
    assert len(rows) > 6 and all(" to " in row for row in rows)


def test_the_main_model_stays_where_it_is_given(deepen, tmp_path, use_ensemble, make_ensemble):
    asked = use_ensemble(make_ensemble(STORIES, KINDS, weights=None, main=1))
    result = run(deepen, tmp_path, write_rows(tmp_path / "set.jsonl"), "--main", "1", "--step", "0.5")
    assert result.exit_code == 0, result.output
    assert asked[0].main == 1
    assert EnsembleConfig.load(tmp_path / "ensemble.yaml").main == 1
    table = result.stdout.split("What was tried")[1].splitlines()
    rows = [line for line in table if line[:1].isdigit() and line.rstrip().endswith("%")]
    assert rows and all(line.startswith("2 ") for line in rows)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("-m", "one", "-m", "two"), 2, "give a development set"),
        (("set.jsonl", "--weight", "0.5", "--weight", "0.5"), 2, "leave --weight out"),
        (("set.jsonl", "--step", "0.3"), 2, "1 divided by a whole number"),
        (("set.jsonl", "--out", "nowhere/ensemble.yaml"), 1, "--out must name a file in a folder that exists"),
        (("set.jsonl", "--out", "set.jsonl"), 1, "is there already"),
        (("missing.jsonl", "-m", "one"), 1, "missing.jsonl"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_loaded(
    deepen, tmp_path, monkeypatch, use_ensemble, arguments, code, message
):
    asked = use_ensemble(None)
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "set.jsonl")
    result = deepen("calibrate", *arguments)
    assert result.exit_code == code
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert not asked and not (tmp_path / "ensemble.yaml").exists()


def test_force_writes_over_a_file(deepen, tmp_path, members):
    (tmp_path / "ensemble.yaml").write_text("old")
    result = run(deepen, tmp_path, write_rows(tmp_path / "set.jsonl"), "--uniform", "--force")
    assert result.exit_code == 0, result.output
    assert EnsembleConfig.load(tmp_path / "ensemble.yaml").members


def test_one_model_leaves_nothing_to_choose(deepen, tmp_path, use_ensemble, make_ensemble):
    use_ensemble(make_ensemble(STORIES, ("bpe",)))
    result = deepen("calibrate", write_rows(tmp_path / "set.jsonl"), "-m", "one", "-o", tmp_path / "ensemble.yaml")
    assert result.exit_code == 1
    assert "needs two members" in result.stderr


def test_without_models_and_a_file_the_bundled_ones_get_questions_of_their_own(
    deepen, tmp_path, use_ensemble, make_ensemble, monkeypatch
):
    from deepen_llm.starter import development

    monkeypatch.setattr(development, "development_pairs", lambda: (("the cat sat", " on the mat."),))
    use_ensemble(make_ensemble(STORIES, KINDS))
    result = deepen("calibrate", "--uniform", "-o", tmp_path / "ensemble.yaml")
    assert result.exit_code == 0, result.output
    assert "questions to the bundled models: 1 rows" in result.stdout


def test_help_explains_and_gives_examples(deepen):
    result = deepen("calibrate", "--help")
    assert result.exit_code == 0
    assert "deepen calibrate" in result.stdout.split("Examples:")[1]
