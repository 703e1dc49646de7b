from __future__ import annotations

import pytest

from deepen_llm import Ensemble
from deepen_llm.calibration.development_set import DevelopmentSet
from deepen_llm.calibration.search import Choice
from deepen_llm.calibration.trials import Trials
from deepen_llm.errors import PromptError

STORIES = ["the cat sat on the mat.", "a dog ran home."]
ROWS = DevelopmentSet.of_pairs("stories", [("the cat sat", " on the mat."), ("a dog", " is"), ("a dog", " ran home.")])


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
    assert trial.scores == pytest.approx([score.logprob for score in expected])
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
