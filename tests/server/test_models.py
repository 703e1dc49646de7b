"""The models that a server offers."""

from __future__ import annotations

import pytest

from deepen_llm import Ensemble, SamplingParams
from deepen_llm.errors import ClosedError, ConfigError
from deepen_llm.members.borrowed import BorrowedMember
from deepen_llm.server.models import ServedModels
from deepen_llm.server.refusals import RefusedError
from deepen_llm.testing import ScriptedMember
from tests.test_ensemble import TEXTS

PARAMS = SamplingParams(max_new_tokens=8)


@pytest.fixture
def ensemble(make_ensemble):
    return make_ensemble(TEXTS)


def test_the_ensemble_and_each_member_have_names(ensemble):
    models = ServedModels(ensemble, "both")
    assert models.names == ("both", "bpe", "sentencepiece")
    assert models.find(None) is models.find("both") is ensemble
    models.close()


def test_a_member_alone_answers_as_an_ensemble_of_it_would(ensemble, vocabularies):
    models = ServedModels(ensemble, "both")
    member = ScriptedMember(vocabularies["sentencepiece"], TEXTS, context_length=512, seed=1)
    with Ensemble([member]) as own:
        assert models.find("sentencepiece").generate("The", PARAMS).text == own.generate("The", PARAMS).text
    models.close()


def test_closing_ends_the_members_alone_and_leaves_the_ensemble(ensemble):
    models = ServedModels(ensemble, "both")
    alone = models.find("bpe")
    models.close()
    with pytest.raises(ClosedError):
        alone.generate("The", PARAMS)
    assert ensemble.generate("The", PARAMS).text


def test_a_name_that_a_member_has_is_refused(ensemble):
    with pytest.raises(ConfigError, match="name of its own; got 'bpe'"):
        ServedModels(ensemble, "bpe")


def test_an_ensemble_of_one_has_one_name(vocabularies):
    with Ensemble([ScriptedMember(vocabularies["bpe"], TEXTS, context_length=64)]) as alone:
        assert ServedModels(alone, "bpe").names == ("bpe",)


def test_a_model_that_there_is_none_of_is_not_found(ensemble):
    models = ServedModels(ensemble, "both")
    with pytest.raises(RefusedError, match="ask for one of 'both', 'bpe', 'sentencepiece'") as caught:
        models.find("gpt")
    assert caught.value.status == 404
    models.close()


def test_a_member_that_tells_its_best_tokens_only_is_not_offered_alone(vocabularies, monkeypatch):
    members = [ScriptedMember(vocabularies[kind], TEXTS, context_length=512) for kind in ("bpe", "sentencepiece")]
    few = BorrowedMember(members[1])
    monkeypatch.setattr(BorrowedMember, "num_told", property(lambda self: 256 if self.name == few.name else None))
    with Ensemble([members[0], few]) as ensemble:
        models = ServedModels(ensemble, "both")
        assert models.names == ("both", "bpe")
        models.close()
