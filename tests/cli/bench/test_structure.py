from __future__ import annotations

import json

import pytest

STORY = "Question: What was ordered, and by whom?\nAnswer: nothing, by nobody."


def test_bench_structure_says_that_all_parse_and_what_it_costs(deepen, use_ensemble, make_ensemble, tmp_path):
    use_ensemble(make_ensemble([STORY]))
    file = tmp_path / "structure.json"
    result = deepen("bench", "structure", "--seeds", 2, "-r", 2, "-n", 300, "--json", file)
    assert result.exit_code == 0, result.stderr
    assert "6 of 6" in result.stdout and "µs" in result.stdout
    written = json.loads(file.read_text())
    assert written["num_parsed"] == written["num_answers"] == 6
    assert 0 < written["share_forced"] < 1
    assert len(written["time_ratio"]["runs"]) == 2 and written["machine"]["torch"]
    assert min(written["tables_s"], written["compile_s"], written["mask_s"]) > 0


def test_answers_that_do_not_fit_are_not_counted_as_json(deepen, use_ensemble, make_ensemble):
    use_ensemble(make_ensemble([STORY]))
    result = deepen("bench", "structure", "--seeds", 1, "-r", 1, "-n", 8)
    assert result.exit_code == 0, result.stderr
    assert "0 of 3" in result.stdout


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--json-schema", "nowhere.json"), 2, "--json-schema cannot be read"),
        (("--json-schema", '{"not": {}}'), 1, 'does not know "not"'),
        (("--json", "missing/structure.json"), 1, "--json must name a file in a folder that exists"),
    ],
)
def test_what_cannot_be_measured_is_refused(deepen, use_ensemble, make_ensemble, options, code, message):
    use_ensemble(make_ensemble([STORY]))
    result = deepen("bench", "structure", *options)
    assert result.exit_code == code
    assert message in " ".join(result.stderr.replace("│", " ").split())
