from __future__ import annotations

import subprocess
import sys

import pytest
from lm_eval.api.instance import Instance

from deepen_llm import Ensemble
from deepen_llm.errors import ConfigError, PromptError
from deepen_llm.evaluation.harness import HarnessModel, read_settings
from deepen_llm.testing import ScriptedMember
from deepen_llm.vocabulary import Vocabulary
from tests.toy_tokenizers import byte_level_bpe

TEXTS = ["Who? A fox ran home.\nThe end.", "What? The hens slept."]


def instances(kind, *arguments):
    return [Instance(request_type=kind, doc={}, arguments=given, idx=at) for at, given in enumerate(arguments)]


@pytest.fixture(scope="module")
def starter():
    with Ensemble.starter() as ensemble:
        yield ensemble


def test_loglikelihoods_are_the_ensembles_scores(make_ensemble):
    ensemble = make_ensemble(TEXTS)
    pairs = [("Who?", " A fox"), ("Who?", " The hens"), ("What?", " The hens")]
    answers = HarnessModel.from_ensemble(ensemble).loglikelihood(instances("loglikelihood", *pairs))
    expected = [score.logprob for score in ensemble.score_batch(pairs)]
    assert [logprob for logprob, _ in answers] == pytest.approx(expected, rel=1e-5)
    assert [is_greedy for _, is_greedy in answers] == [True, False, True]


def test_one_member_alone_is_a_model_as_well(make_ensemble):
    alone = make_ensemble(TEXTS, kinds=("sentencepiece",))
    ((logprob, is_greedy),) = HarnessModel.from_ensemble(alone).loglikelihood(instances("x", ("Who?", " A fox")))
    assert logprob < 0 and is_greedy


def test_an_empty_context_is_a_start_of_text_or_else_a_newline(make_ensemble):
    with_start, without = make_ensemble(TEXTS, kinds=("sentencepiece",)), make_ensemble(TEXTS, kinds=("bpe",))
    assert with_start.members[0].vocabulary.prefix_ids and not without.members[0].vocabulary.prefix_ids
    for ensemble, context in ((with_start, ""), (without, "\n")):
        ((logprob, _),) = HarnessModel.from_ensemble(ensemble).loglikelihood(instances("x", ("", "Who?")))
        assert logprob == ensemble.score(context, "Who?").logprob


def test_rolling_scores_every_character_of_texts_longer_than_the_context(make_ensemble):
    text = "The hens slept. A fox ran home.\n" * 8
    roomy = make_ensemble([text], kinds=("sentencepiece",), context_length=512)
    narrow = make_ensemble([text], kinds=("sentencepiece",), context_length=64)
    whole, pieces = (
        HarnessModel.from_ensemble(e).loglikelihood_rolling(instances("x", (text,), ("The hens",)))
        for e in (roomy, narrow)
    )
    assert whole[0] == pytest.approx(roomy.score("", text).logprob)
    assert whole[1] == pytest.approx(roomy.score("", "The hens").logprob)
    assert pieces[0] < 2 * whole[1]


def test_generation_stops_where_the_task_says(make_ensemble):
    model = HarnessModel.from_ensemble(make_ensemble(TEXTS, kinds=("bpe",)))
    settings = {"until": ["\n"], "max_gen_toks": 40, "do_sample": False}
    assert model.generate_until(instances("x", ("Who?", settings), ("What?", settings))) == [
        " A fox ran home.",
        " The hens slept.",
    ]


def test_finished_requests_are_kept_in_the_cache_file(make_ensemble, tmp_path):
    cache = tmp_path / "cache.jsonl"
    first = HarnessModel.from_ensemble(make_ensemble(TEXTS), cache).loglikelihood(instances("x", ("Who?", " A")))
    ensemble = make_ensemble(TEXTS)
    assert HarnessModel.from_ensemble(ensemble, cache).loglikelihood(instances("x", ("Who?", " A"))) == first
    assert not ensemble.members[0].passes


def test_shortened_prompts_are_counted_in_a_warning(make_ensemble, caplog):
    model = HarnessModel.from_ensemble(make_ensemble(TEXTS, context_length=64))
    model.loglikelihood(instances("x", ("words and more words. " * 40 + "Who?", " A"), ("Who?", " A")))
    assert "1 of 2 prompts were too long" in caplog.text


def test_a_chat_goes_through_every_members_own_template(starter):
    model = HarnessModel.from_ensemble(starter)
    messages = [{"role": "user", "content": "What is the capital of Kenya?"}]
    prompt = model.apply_chat_template(messages)
    (text,) = model.generate_until(instances("x", (prompt, {"until": ["\n"], "max_gen_toks": 12})))
    assert "Nairobi" in text
    with pytest.raises(PromptError, match="cannot be scored in a chat"):
        model.loglikelihood(instances("x", (prompt, " Nairobi")))
    with pytest.raises(PromptError, match="cannot begin with given words"):
        model.apply_chat_template(messages, add_generation_prompt=False)
    assert model.tokenizer_name == "llama+neox+qwen2"
    assert model.chat_template() == ""


def test_members_without_a_chat_template_refuse_one():
    tokenizer = byte_level_bpe()
    tokenizer.chat_template = None
    member = ScriptedMember(Vocabulary.from_tokenizer(tokenizer, name="plain"), TEXTS)
    with Ensemble([member]) as ensemble, pytest.raises(PromptError, match="not every member has a chat template"):
        HarnessModel.from_ensemble(ensemble).apply_chat_template([{"role": "user", "content": "Hi"}])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {"max_new_tokens": 256, "temperature": 0.0, "stop": ()}),
        ({"until": "\n", "max_gen_toks": 8, "temperature": 0.0}, {"max_new_tokens": 8, "stop": ("\n",)}),
        (
            {"until": ["a", ""], "do_sample": False, "temperature": 0.7, "top_p": 0.5},
            {"temperature": 0.0, "top_p": 1.0},
        ),
        ({"do_sample": True, "temperature": 0.7, "top_k": 5}, {"temperature": 0.7, "top_k": 5, "seed": 3}),
        ({"do_sample": True, "seed": 9}, {"temperature": 1.0, "seed": 9}),
    ],
)
def test_generation_settings_are_read_as_lm_eval_means_them(settings, expected):
    params = read_settings(settings, position=3)
    assert {name: getattr(params, name) for name in expected} == expected


def test_unknown_generation_settings_are_refused():
    with pytest.raises(ConfigError, match=r"must be among .*until; got \['num_beams'\]"):
        read_settings({"num_beams": 4})


def test_without_lm_eval_the_error_says_what_to_install():
    code = (
        "import sys; sys.modules['lm_eval'] = None\n"
        "from deepen_llm.errors import MissingDependencyError\n"
        "try: import deepen_llm.evaluation.harness\n"
        "except MissingDependencyError as error: assert \"pip install 'deepen-llm[eval]'\" in str(error)\n"
        "else: sys.exit('no error')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_lm_evals_own_evaluator_takes_the_model(starter):
    from datasets import Dataset
    from lm_eval import evaluate
    from lm_eval.api.task import ConfigurableTask

    rows = Dataset.from_list([{"text": "What is the capital of Kenya?"}])
    config = {
        "task": "rolling",
        "custom_dataset": lambda: {"test": rows},
        "test_split": "test",
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "num_fewshot": 0,
        "metric_list": [{"metric": "bits_per_byte", "aggregation": "bits_per_byte", "higher_is_better": False}],
    }
    task = ConfigurableTask(config=config)
    results = evaluate(lm=HarnessModel.from_ensemble(starter), task_dict={"rolling": task}, bootstrap_iters=0)
    assert 0 < results["results"]["rolling"]["bits_per_byte,none"] < 8
