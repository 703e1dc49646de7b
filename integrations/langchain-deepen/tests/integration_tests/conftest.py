"""The bundled starter models, loaded once."""

import pytest

from deepen_llm import Ensemble


@pytest.fixture(scope="session")
def ensemble():
    with Ensemble.starter() as ensemble:
        yield ensemble
