"""A copy shares the open ensemble; a pickle keeps where it comes from, and loads it anew."""

import copy
import pickle

import pytest
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import PromptTemplate

from deepen_llm.errors import ConfigError
from deepen_llm.frontends.source import EnsembleSource
from langchain_deepen import ChatDeepen, DeepenLLM

pytestmark = pytest.mark.parametrize("model_class", [DeepenLLM, ChatDeepen])

COPIES = [
    copy.deepcopy,
    copy.copy,
    lambda model: model.model_copy(),
    lambda model: model.model_copy(deep=True),
    lambda model: copy.deepcopy(model.bind(stop=["."])),
    lambda model: copy.deepcopy(model.with_config(tags=["x"])),
    lambda model: copy.deepcopy(model.with_retry()),
    lambda model: copy.deepcopy(PromptTemplate.from_template("{x}") | model | StrOutputParser()).bind().steps[1],
]


@pytest.fixture
def opened(monkeypatch, ensemble):
    """Sources that were opened."""
    sources = []

    def open_fake(source):
        sources.append(source)
        return ensemble

    monkeypatch.setattr(EnsembleSource, "open", open_fake)
    return sources


@pytest.mark.parametrize("make_copy", COPIES)
def test_a_copy_shares_the_open_ensemble(model_class, ensemble, make_copy):
    model = model_class(ensemble=ensemble, max_tokens=3)
    copied = make_copy(model)
    assert copied is not model
    copied.invoke("Hi")
    assert len(ensemble.calls) == 1


def test_a_deep_copy_has_options_of_its_own(model_class, ensemble):
    model = model_class(ensemble=ensemble, stop=["x"])
    copied = copy.deepcopy(model)
    copied.stop.append("y")
    assert (model.stop, copied.ensemble) == (["x"], ensemble)


def test_a_pickle_loads_the_models_anew(model_class, opened):
    model = model_class(model=["org/a", "org/b"], weights=[0.5, 0.5], max_tokens=3)
    again = pickle.loads(pickle.dumps(model))
    assert opened == [model.opened.source] * 2
    assert again.opened.source.model == ["org/a", "org/b"]
    again.invoke("Hi")


def test_a_pickle_of_a_ready_ensemble_is_refused_by_name(model_class, ensemble):
    with pytest.raises(ConfigError, match="ensemble= that was opened elsewhere: give model="):
        pickle.dumps(model_class(ensemble=ensemble))
