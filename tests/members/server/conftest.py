from __future__ import annotations

import pytest

from deepen_llm import MemberConfig
from tests.members.server.doubles import DOUBLES, save_tokenizer


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory):
    return save_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture
def serve():
    """Starts servers, which end with the test."""
    started = []

    def start(kind):
        started.append(DOUBLES[kind]())
        return started[-1]

    yield start
    for double in started:
        double.stop()


@pytest.fixture
def load(tokenizer_folder):
    """Loads members of servers, which are closed with the test."""
    loaded = []

    def load(double, **settings):
        settings = {"tokenizer": tokenizer_folder, "name": "remote", "top": 100, "timeout_s": 20.0, **settings}
        loaded.append(MemberConfig(model=double.address, **settings).load())
        return loaded[-1]

    yield load
    for member in loaded:
        member.close()
