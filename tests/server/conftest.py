from __future__ import annotations

import pytest

pytest.importorskip("fastapi")

from deepen_llm import Ensemble
from tests.server.serving import serving


@pytest.fixture(scope="session")
def starter():
    """The bundled models."""
    with Ensemble.starter() as ensemble:
        yield ensemble


@pytest.fixture(scope="session")
def server(starter):
    with serving(starter) as server:
        yield server
