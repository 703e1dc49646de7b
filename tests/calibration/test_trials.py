from __future__ import annotations

import math

import pytest

from deepen_llm import Ensemble
from deepen_llm.calibration.development_set import DevelopmentSet
from deepen_llm.calibration.search import Choice
from deepen_llm.calibration.trials import Trials, start_of
from deepen_llm.config import EnsembleConfig, FusionConfig
from deepen_llm.errors import PromptError

STORIES = ["the cat sat on the mat.", "a dog ran home."]
ROWS = DevelopmentSet.of_pairs("stories", [("the cat sat", " on the mat."), ("a dog", " is"), ("a dog", " ran home.")])

NUM_BYTES = len(" on the mat." + " is" + " ran home.")


@pytest.fixture
def ensemble(make_ensemble):
    return make_ensemble(STORIES, max_batch_size=2)


def test_a_trial_is_what_an_ensemble_of_that_choice_scores(ensemble, make_ensemble):
    choice = Choice(1, (0.3, 0.7), 0.5)
    trial = Trials(ensemble.members, ensemble.config, ROWS)(choice)
    fusion = ensemble.config.fusion.replace(trust=0.5)
    same = make_ensemble(STORIES, main=1, weights=(0.3, 0.7), fusion=fusion, max_batch_size=2)
    expected = same.score_batch([(row.prompt, row.answer) for row in ROWS.rows])
    assert trial.choice == choice
    assert trial.scores == pytest.approx([ROWS.score(score.logprob) for score in expected])
    assert trial.bits_per_byte.value == pytest.approx(-sum(s.logprob for s in expected) / math.log(2) / NUM_BYTES)
    assert trial.is_greedy == tuple(score.is_greedy for score in expected) == (True, False, True)


def test_the_members_stay_open_and_every_row_is_given_back(ensemble):
    trials = Trials(ensemble.members, ensemble.config, ROWS)
    for weights in ((0.5, 0.5), (0.8, 0.2)):
        trials(Choice(0, weights, 1.0))
    assert not any(member.is_closed or member.rows for member in ensemble.members)
    assert ensemble.generate("the cat sat").text == " on the mat."


def test_progress_is_told_batch_by_batch(ensemble):
    told = []
    choice = Choice(0, (0.5, 0.5), 1.0)
    Trials(ensemble.members, ensemble.config, ROWS, lambda *report: told.append(report))(choice)
    assert told == [(choice, 0), (choice, 2), (choice, 1)]


def test_a_choice_is_written_into_the_configuration_and_nothing_else_changes(ensemble):
    config = Trials(ensemble.members, ensemble.config, ROWS).configure(Choice(1, (0.2, 0.8), 0.25))
    assert (config.main, config.weights, config.fusion.trust) == (1, (0.2, 0.8), 0.25)
    assert config.replace(main=0, weights=ensemble.config.weights, fusion=ensemble.config.fusion) == ensemble.config


def test_a_row_that_cannot_be_run_is_an_error_and_closes_nothing(ensemble):
    bad = DevelopmentSet.of_pairs("bad", [("\ud800", " x")])
    with pytest.raises(PromptError):
        Trials(ensemble.members, ensemble.config, bad)(Choice(0, (0.5, 0.5), 1.0))
    assert isinstance(ensemble, Ensemble) and not any(member.is_closed for member in ensemble.members)


def test_weights_that_learn_and_temperatures_are_written_and_load_back(ensemble, tmp_path):
    choice = Choice(1, (0.2, 0.8), 0.25, 0.3, 0.6, (1.0, 1.35))
    config = Trials(ensemble.members, ensemble.config, ROWS).configure(choice)
    config.save(tmp_path / "ensemble.yaml")
    loaded = EnsembleConfig.load(tmp_path / "ensemble.yaml")
    assert loaded == config
    assert [member.temperature for member in loaded.members] == [1.0, 1.35]
    assert loaded.weights.model_dump() == {"kind": "adaptive", "prior": (0.2, 0.8), "eta": 0.3, "alone": 0.6}
    assert "temperature: 1.35" in (tmp_path / "ensemble.yaml").read_text()


def test_a_choice_with_temperatures_is_scored_at_them(ensemble):
    trials = Trials(ensemble.members, ensemble.config, ROWS)
    found = [trials(Choice(0, (0.5, 0.5), 1.0, 0.15, 0.4, (t, t))) for t in (1.0, 2.0)]
    assert found[1].score.value != pytest.approx(found[0].score.value, abs=0.01)
    assert trials(Choice(0, (0.5, 0.5), 1.0, 0.15, 0.4)).scores == pytest.approx(found[0].scores)


def test_a_member_alone_runs_without_the_others(ensemble, make_ensemble):
    trials = Trials(ensemble.members, ensemble.config, ROWS)
    trial = trials(Choice(1, (0.0, 1.0), 0.5, temperatures=(1.0, 2.0)))
    alone = make_ensemble(STORIES, ("sentencepiece",))
    alone.members[0].change = lambda text, logits: logits / 2.0
    expected = alone.score_batch([(row.prompt, row.answer) for row in ROWS.rows])
    assert trial.scores == pytest.approx([ROWS.score(one.logprob) for one in expected], abs=1e-5)
    assert not ensemble.members[0].passes


def test_right_answers_are_counted_by_exact_match_of_the_first_line(ensemble):
    rows = [("the cat sat", " On the mat"), ("a dog", " ran"), ("a dog", " ran home."), ("a dog", " is")]
    told = []
    development = DevelopmentSet.of_pairs("stories", rows)
    trials = Trials(ensemble.members, ensemble.config, development, lambda *report: told.append(report[1]))
    assert trials.count_right(Choice(0, (0.7, 0.3), 1.0)) == 2
    assert sum(told) == 4


def test_a_chat_is_scored_and_answered_in_the_templates(ensemble):
    prompts = [list(development.rows) for development in (ROWS, ROWS.in_chat())]
    assert prompts[1][0].prompt == ({"role": "user", "content": "the cat sat"},)
    assert prompts[1][0].answer == "on the mat."
    trials = Trials(ensemble.members, ensemble.config, ROWS.in_chat())
    choice = Choice(0, (0.7, 0.3), 1.0)
    expected = ensemble.score_chat_batch([(row.prompt, row.answer) for row in prompts[1]])
    assert trials(choice).scores == pytest.approx([ROWS.in_chat().score(one.logprob) for one in expected])
    assert trials.count_right(choice) == 0
    said = ensemble.members[0].vocabulary.join(ensemble.members[0].vocabulary.encode_chat(prompts[1][0].prompt).ids)
    for member in ensemble.members:
        member.texts.append(said + b"on the mat.")
    assert trials.count_right(choice) == 1


def test_the_start_is_an_ensemble_as_it_is_with_default_weights(make_ensemble, monkeypatch):
    ensemble = make_ensemble(STORIES, main=1, fusion=FusionConfig(trust=0.5))
    assert start_of(ensemble) == Choice(1, (0.5, 0.5), 0.5, 0.15, 0.4, (1.0, 1.0))
    assert start_of(ensemble, fixed=True) == Choice(1, (0.5, 0.5), 0.5, temperatures=(1.0, 1.0))
    sizes = {"bpe": 10, "sentencepiece": 1000}
    monkeypatch.setattr(type(ensemble.members[0]), "num_parameters", property(lambda self: sizes[self.name]))
    assert start_of(ensemble).weights == pytest.approx((1 / (1 + 100**0.4), 100**0.4 / (1 + 100**0.4)))
    assert start_of(ensemble, uniform=True).weights == (0.5, 0.5)


def test_weights_do_not_learn_where_nothing_is_taken_as_text(make_ensemble):
    assert not start_of(make_ensemble(STORIES, fusion=FusionConfig(method="union"))).learns
