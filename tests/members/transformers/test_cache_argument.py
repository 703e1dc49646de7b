from __future__ import annotations

from types import SimpleNamespace

import pytest

from deepen_llm.errors import MemberError
from deepen_llm.members.transformers.cache_argument import find_cache_argument


@pytest.mark.parametrize(
    ("forward", "name"),
    [
        (lambda input_ids, cache=None, **more: None, "cache"),
        (lambda input_ids, cache_params=None, **more: None, "cache_params"),
        (lambda input_ids, past_key_values=None, **more: None, "past_key_values"),
    ],
)
def test_the_cache_goes_by_the_name_that_the_model_has_for_it(forward, name):
    model = SimpleNamespace(forward=forward)
    assert find_cache_argument(model) == name
    wrapper = SimpleNamespace(forward=lambda *given, **more: None, get_base_model=lambda: model)
    assert find_cache_argument(wrapper) == name


def test_a_model_that_takes_no_cache_is_refused_instead_of_answering_without_one():
    model = SimpleNamespace(forward=lambda input_ids, memory=None, **more: None)
    with pytest.raises(MemberError, match=r"SimpleNamespace.forward must take a cache.*it takes input_ids, memory"):
        find_cache_argument(model)
