"""The `generation_config` of a model of transformers."""

from __future__ import annotations

import pytest

from deepen_llm.errors import MemberError
from deepen_llm.members.transformers.generation_defaults import read_generation_defaults
from tests.models import make_model


def read(**settings):
    model = make_model()
    for name, value in settings.items():
        setattr(model.generation_config, name, value)
    return read_generation_defaults(model, "m", 64)


def test_what_says_nothing_of_tokens_is_left_out():
    assert set(read().settings) <= {"eos_token_id"}
    assert (
        read(temperature=0.6, do_sample=True, use_cache=True).settings.items()
        >= {
            "temperature": 0.6,
            "do_sample": True,
        }.items()
    )


def test_suppressed_tokens_are_those_that_the_model_has():
    defaults = read(suppress_tokens=[5, 64, -1], begin_suppress_tokens=[7])
    assert (defaults.suppressed_ids, defaults.first_suppressed_ids) == ((5,), (7,))


@pytest.mark.parametrize("ids", ["5", [True], ["a"], [1.5], 5])
def test_suppressed_tokens_that_are_no_ids_are_refused_by_name(ids):
    with pytest.raises(MemberError, match=r"member 'm': generation_config.suppress_tokens must be a list of token ids"):
        read(suppress_tokens=ids)
