from __future__ import annotations

import pytest

from deepen_llm.config import FusionConfig
from deepen_llm.errors import ConfigError
from deepen_llm.evaluation.systems import METHODS, find_method


def test_default_and_published_are_what_the_configuration_calls_so():
    assert find_method("default") == FusionConfig()
    assert find_method("published") == FusionConfig.published()


def test_an_unknown_method_lists_the_known_ones():
    with pytest.raises(ConfigError, match=f"no method 'majority': the known ones are {', '.join(METHODS)}"):
        find_method("majority")
