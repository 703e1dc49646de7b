"""Whatever is given for an argument, an answer comes or an own error that names it, and the next request is right."""

from __future__ import annotations

import logging
import re
import time
import zlib

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from deepen_llm import Ensemble, EnsembleConfig, MemberConfig, SamplingParams
from deepen_llm.errors import ContextLengthError, DeepenError, MemberError
from deepen_llm.testing import ScriptedMember
from tests.any_values import ANY, NO_MODEL, PLACES, PROMPT, SHORT, SLOW_PLACES

REST = " a time"
MOST_CHARACTERS = 4_000
"""More nobody reads of a message."""
MOST_S = 10.0
QUICK = settings(
    max_examples=4, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)
THOROUGH = settings(
    max_examples=60,
    deadline=None,
    database=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
"""With the number of places, more than 5,000 values."""


@pytest.fixture(scope="module")
def ensemble(vocabularies):
    members = [
        ScriptedMember(vocabularies[kind], [PROMPT + REST], context_length=96, seed=at)
        for at, kind in enumerate(("bpe", "sentencepiece"))
    ]
    with pytest.raises(MemberError):  # what loads models is imported once, and not in the time of a value
        MemberConfig(model=NO_MODEL).load()
    config = EnsembleConfig(members=tuple(member.name for member in members), weights=(0.7, 0.3))
    with Ensemble(members, config) as made:
        yield made


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    """Names of files are among the values; what members fail with is logged, which is not looked at here."""
    monkeypatch.chdir(tmp_path)
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("name", PLACES)
def test_any_value_gives_an_answer_or_an_own_error_that_names_the_argument(ensemble, name):
    every_time_the_same = seed(zlib.crc32(name.encode()))
    put_values(ensemble, PLACES[name], lambda test: every_time_the_same(QUICK(test)))


@pytest.mark.slow
@pytest.mark.parametrize("name", PLACES)
def test_many_values_give_an_answer_or_an_own_error_that_names_the_argument(ensemble, name):
    put_values(ensemble, PLACES[name], THOROUGH)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of torch and transformers, about settings that they take all the same
@pytest.mark.parametrize("name", SLOW_PLACES)
def test_any_value_loads_a_member_or_gives_an_own_error_that_names_the_argument(ensemble, name):
    put_values(ensemble, SLOW_PLACES[name], THOROUGH)


def test_the_thorough_run_tries_five_thousand_values():
    assert len(PLACES) * THOROUGH.max_examples >= 5_000


def put_values(ensemble, place, how):
    """Values of any type into one place, and then a good request."""

    @how
    @given(ANY)
    def put(value):
        begin = time.monotonic()
        try:
            place.call(ensemble, value)
        except DeepenError as error:
            check_message(error, place.names)
        assert time.monotonic() - begin < MOST_S

    put()
    answer = ensemble.generate(PROMPT, SamplingParams(timeout_s=60.0))
    assert answer.text == REST
    assert ensemble.generate(PROMPT, SHORT).token_ids == answer.token_ids[: SHORT.max_new_tokens]


def check_message(error, names):
    """It can be read, and says which argument is meant; what is too long says for which member instead."""
    message = str(error)
    assert len(message) <= MOST_CHARACTERS, f"{len(message)} characters: {message[:200]} ..."
    is_named = any(re.search(rf"\b{re.escape(name)}\b", message) for name in names)
    assert is_named or isinstance(error, ContextLengthError), f"none of {names} stands in: {message}"
