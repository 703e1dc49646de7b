"""A copy shares the open ensemble; a pickle keeps what was given, and loads the models anew."""

from __future__ import annotations

import copy
import pickle

import pytest
from llama_index.core.response_synthesizers import get_response_synthesizer
from llama_index.core.schema import NodeWithScore, TextNode

from deepen_llm import Ensemble
from deepen_llm.errors import ConfigError, MemberError
from llama_index.llms.deepen import DeepenLLM

COPIES = [copy.deepcopy, copy.copy, DeepenLLM.model_copy, lambda llm: llm.model_copy(deep=True)]


@pytest.fixture
def loaded(ensemble, monkeypatch):
    """An LLM that loaded its models, and how often any were loaded."""
    calls = []

    def load(*arguments, **settings):
        calls.append((arguments, settings))
        return ensemble

    monkeypatch.setattr(Ensemble, "from_pretrained", load)
    return DeepenLLM(["org/a", "org/b"], weights=[0.5, 0.5], temperature=0.5, top_p=0.9), calls


@pytest.mark.parametrize("make_copy", COPIES)
def test_a_copy_shares_the_open_ensemble_and_has_options_of_its_own(starter, make_copy):
    llm = DeepenLLM(ensemble=starter, max_tokens=3)
    copied = make_copy(llm)
    assert copied.ensemble is starter
    copied.max_tokens = 5
    assert (llm.max_tokens, copied.max_tokens) == (3, 5)
    assert copied.complete("Hi", max_tokens=3).text == llm.complete("Hi").text
    assert copied.metadata.context_window == llm.metadata.context_window


def test_what_holds_an_llm_can_be_copied_deeply(llm, ensemble):
    synthesizer = copy.deepcopy(get_response_synthesizer(llm, response_mode="simple_summarize"))
    found = [NodeWithScore(node=TextNode(text="Paris is it."))]
    assert str(synthesizer.synthesize("What is it?", found)) == "Paris is it."
    assert copy.deepcopy(llm.as_structured_llm(TextNode)).llm.ensemble is ensemble


def test_a_pickle_loads_the_models_anew_with_what_was_given_alone(loaded):
    llm, calls = loaded
    again = pickle.loads(pickle.dumps(llm))
    assert len(calls) == 2
    assert calls[0] == calls[1]
    assert (again.temperature, again.top_p, again.model_fields_set) == (0.5, 0.9, llm.model_fields_set)
    # An option that was never given gives way where a call says otherwise.
    assert again.complete("Capital?", temperature=0).text == "Paris is it."


def test_a_pickle_of_a_ready_ensemble_is_refused_by_name(llm):
    with pytest.raises(ConfigError, match="ensemble= that was opened elsewhere: give model="):
        pickle.dumps(llm)


def test_a_pickle_whose_models_are_gone_says_so(loaded, monkeypatch):
    pickled = pickle.dumps(loaded[0])

    def fail(*arguments, **settings):
        raise MemberError("there is no model 'org/a'")

    monkeypatch.setattr(Ensemble, "from_pretrained", fail)
    with pytest.raises(MemberError, match="there is no model 'org/a'"):
        pickle.loads(pickled)
