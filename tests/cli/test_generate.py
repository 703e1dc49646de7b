from __future__ import annotations

import json

import pytest

from deepen_llm import Ensemble, SamplingParams

STORY = "the cat sat on the mat. the dog [bold]ran[/bold] home."


def test_the_answer_goes_to_stdout_exactly_as_it_is(deepen, use_ensemble, make_ensemble):
    use_ensemble(make_ensemble([STORY]))
    result = deepen("generate", "the cat sat")
    assert (result.exit_code, result.stdout) == (0, STORY.removeprefix("the cat sat") + "\n")


def test_a_dash_reads_the_prompt_from_stdin_without_its_last_newline(deepen, use_ensemble, make_ensemble):
    use_ensemble(make_ensemble([STORY]))
    result = deepen("generate", "-", input="the cat sat\n")
    assert result.stdout == STORY.removeprefix("the cat sat") + "\n"


def test_options_become_sampling_params_and_a_source(deepen, use_ensemble, make_ensemble, monkeypatch):
    ensemble = make_ensemble([STORY])
    asked = use_ensemble(ensemble)
    seen = []
    stream = ensemble.stream
    monkeypatch.setattr(ensemble, "stream", lambda text, params: (seen.append(params), stream(text, params))[1])
    sampling = (
        "-n",
        3,
        "--temperature",
        0.5,
        "--top-k",
        4,
        "--seed",
        7,
        "--stop",
        "mat",
        "--stop",
        "dog",
        "--timeout-s",
        60,
    )
    models = ("-m", "one", "-m", "two", "-w", 0.25, "-w", 0.75, "--main", "1", "--dtype", "float32")
    assert deepen("generate", "the cat", *sampling, *models).exit_code == 0
    assert seen == [
        SamplingParams(max_new_tokens=3, temperature=0.5, top_k=4, seed=7, stop=("mat", "dog"), timeout_s=60)
    ]
    (source,) = asked
    assert (source.model, source.weights, source.main) == (["one", "two"], (0.25, 0.75), 1)
    assert source.member_options == {"dtype": "float32"}
    assert not source.is_starter


def test_without_options_the_defaults_are_those_of_sampling_params(deepen, use_ensemble, make_ensemble, monkeypatch):
    ensemble = make_ensemble([STORY])
    asked = use_ensemble(ensemble)
    seen = []
    stream = ensemble.stream
    monkeypatch.setattr(ensemble, "stream", lambda text, params: (seen.append(params), stream(text, params))[1])
    deepen("generate", "the cat")
    assert seen == [SamplingParams()]
    assert asked[0].is_starter


def test_json_holds_the_whole_generation(deepen, use_ensemble, make_ensemble):
    use_ensemble(make_ensemble([STORY]))
    result = deepen("generate", "the cat sat", "--json", "--logprobs", 2, "--trace")
    answer = json.loads(result.stdout)
    assert answer["text"] == STORY.removeprefix("the cat sat")
    assert answer["finish_reason"] == "stop"
    assert answer["usage"]["completion_tokens"] == len(answer["token_ids"]) == len(answer["trace"])
    assert len(answer["logprobs"][0]["top"]) == 2


def test_trace_prints_a_row_a_step_with_every_member(deepen, use_ensemble, make_ensemble):
    ensemble = make_ensemble([STORY])
    use_ensemble(ensemble)
    result = deepen("generate", "the cat sat", "--trace", "--logprobs", 0)
    table = result.stdout
    assert all(name in table for name in ensemble.member_names)
    steps = make_ensemble([STORY]).generate("the cat sat", SamplingParams(trace=True)).trace
    assert all(repr(step.text) in table for step in steps)
    assert "logprob" in table


def test_a_trace_tells_the_weights_at_each_step_where_they_change(deepen, use_ensemble, make_ensemble):
    ensemble = make_ensemble([STORY], texts_of={"sentencepiece": ["?"]}, weights="adaptive")
    use_ensemble(ensemble)
    answer = ensemble.generate("the cat sat", SamplingParams(trace=True))
    table = deepen("generate", "the cat sat", "--trace", env={"COLUMNS": "160"}).stdout
    rows = [line.split() for line in table.splitlines() if not line.startswith("Weights")]
    weights = [row[row.index("bpe") + 1] for row in rows if "bpe" in row[:4]]
    assert weights == [f"{step.weights[0]:.3g}" for step in answer.trace]
    assert f"Weights: bpe from {answer.trace[0].weights[0]:.3g} to {answer.fusion.weights[0]:.3g}, " in table


def test_below_a_trace_it_says_where_weights_stayed(deepen, use_ensemble, make_ensemble):
    use_ensemble(make_ensemble([STORY]))
    table = deepen("generate", "the cat sat", "--trace").stdout
    assert "weight " not in table
    assert "Weights stayed at 0.7 for bpe and 0.3 for sentencepiece." in table
    use_ensemble(make_ensemble([STORY], kinds=("bpe",)))
    assert "eights" not in deepen("generate", "the cat sat", "--trace").stdout


def test_the_word_prompt_in_place_of_weights_lets_each_prompt_choose(deepen, use_ensemble, make_ensemble):
    asked = use_ensemble(make_ensemble([STORY]))
    assert deepen("generate", "the cat", "-m", "one", "-m", "two", "--weight", "prompt").exit_code == 0
    assert asked[0].weights == "prompt"


@pytest.mark.parametrize("weights", [("prompt", "0.5"), ("prompt", "prompt"), ("half",), ("",)])
def test_a_weight_that_is_neither_a_number_nor_that_word_is_wrong_usage(deepen, use_ensemble, make_ensemble, weights):
    use_ensemble(make_ensemble([STORY]))
    given = [argument for weight in weights for argument in ("--weight", weight)]
    result = deepen("generate", "the cat", "-m", "one", "-m", "two", *given)
    assert result.exit_code == 2
    assert "--weight is a number, once per member, or once 'adaptive' or 'prompt'" in " ".join(
        result.stderr.replace("│", " ").split()
    )


SCHEMA = {"type": "object", "properties": {"cat": {"enum": ["sat", "ran"]}}, "required": ["cat"]}


def test_a_json_schema_comes_as_it_is_or_in_a_file(deepen, use_ensemble, make_ensemble, tmp_path):
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(SCHEMA))
    for given in (json.dumps(SCHEMA), file):
        use_ensemble(make_ensemble([STORY]))
        result = deepen("generate", "the cat", "--json-schema", given)
        assert json.loads(result.stdout)["cat"] in ("sat", "ran")


def test_a_grammar_comes_in_a_file_and_a_regular_expression_as_it_is(deepen, use_ensemble, make_ensemble, tmp_path):
    file = tmp_path / "answer.lark"
    file.write_text('start: " " ("sat" | "ran")')
    for option in (("--grammar", file), ("--regex", " (sat|ran)")):
        use_ensemble(make_ensemble([STORY]))
        assert deepen("generate", "the cat", *option).stdout == " sat\n"


def test_a_trace_of_forced_steps_has_empty_cells_for_the_members(deepen, use_ensemble, make_ensemble):
    use_ensemble(make_ensemble([STORY]))
    result = deepen("generate", "the cat", "--regex", " sat on a (bed|mat)", "--trace")
    assert result.exit_code == 0
    assert "100.0%" in result.stdout and "bpe" in result.stdout


@pytest.mark.parametrize(
    ("option", "named"),
    [
        (("--json-schema", "nowhere.json"), "--json-schema cannot be read: No such file"),
        (("--json-schema", "{not json"), "--json-schema must be JSON"),
        (("--grammar", "nowhere.lark"), "--grammar cannot be read: No such file"),
        (("--regex", "a", "--json-schema", "{}"), "json_schema and regex"),
    ],
)
def test_a_structure_that_cannot_be_read_is_wrong_usage(deepen, use_ensemble, make_ensemble, option, named):
    use_ensemble(make_ensemble([STORY]))
    result = deepen("generate", "the cat", *option)
    assert result.exit_code == 2
    assert named in " ".join(result.stderr.replace("│", " ").split())


def test_a_schema_that_cannot_be_expressed_is_said_in_one_line(deepen, use_ensemble, make_ensemble):
    use_ensemble(make_ensemble([STORY]))
    result = deepen("generate", "the cat", "--json-schema", '{"type": "array", "uniqueItems": true}')
    assert result.exit_code == 1
    assert "uniqueItems" in result.stderr and "Traceback" not in result.stderr


def test_a_structured_answer_that_was_cut_is_a_failure_and_one_that_was_closed_early_says_so(
    deepen, use_ensemble, make_ensemble
):
    use_ensemble(make_ensemble(["the cat " + "sat " * 90]))
    cut = deepen("generate", "the cat", "--regex", "(?:[a-z ]{200,300})!", "-n", 3)
    assert cut.exit_code == 1
    assert "cut before its structure was whole: raise --max-new-tokens" in cut.stderr
    use_ensemble(make_ensemble(["the cat " + "sat " * 90]))
    closed = deepen("generate", "the cat", "--regex", "[a-z ]*!", "-n", 20)
    assert closed.exit_code == 0 and closed.stdout.endswith("!\n")
    assert "closed before --max-new-tokens ran out" in closed.stderr


def test_a_bias_is_json_and_stop_tokens_may_be_several(deepen, use_ensemble, make_ensemble, monkeypatch):
    ensemble = make_ensemble([STORY])
    use_ensemble(ensemble)
    seen = []
    stream = ensemble.stream
    monkeypatch.setattr(ensemble, "stream", lambda text, params: (seen.append(params), stream(text, params))[1])
    bias = ("--logit-bias", '{"50": -100}', "--stop-token-ids", 3, "--stop-token-ids", 4, "--presence-penalty", -0.5)
    assert deepen("generate", "the cat", *bias).exit_code == 0
    assert seen == [SamplingParams(logit_bias={50: -100}, stop_token_ids=(3, 4), presence_penalty=-0.5)]
    for given, message in (("{", "must be JSON"), ("[1]", "cannot be read"), ('{"5": 101}', "from -100 to 100")):
        result = deepen("generate", "the cat", "--logit-bias", given)
        assert result.exit_code != 0 and message in " ".join(result.stderr.split())


def test_several_answers_come_one_after_another_with_a_rule_between_them(deepen, use_ensemble, make_ensemble):
    use_ensemble(make_ensemble([STORY]))
    result = deepen("generate", "the cat sat", "--n", 3, "-t", 0.01, "--trace", env={"COLUMNS": "40"})
    answer = STORY.removeprefix("the cat sat")
    printed, *tables = result.stdout.split("\nSteps\n")
    assert printed == f"\n{'─' * 40}\n".join([answer] * 3) + "\n"
    assert len(tables) == 3


def test_where_no_words_come_to_a_plain_prompt_chat_is_suggested(deepen, use_ensemble, make_ensemble, monkeypatch):
    def complaint(text):
        use_ensemble(make_ensemble([text]))
        return deepen("generate", "the cat").stderr

    assert "try `deepen chat`" in complaint("the cat")
    assert "deepen chat" not in complaint(STORY)
    monkeypatch.setattr(Ensemble, "has_chat_template", False)
    assert "deepen chat" not in complaint("the cat"), "which these members cannot"
