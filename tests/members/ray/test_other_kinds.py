"""GGUF files in an actor: their vocabulary is opened anew from the same file."""

from __future__ import annotations

import pytest
import torch

from deepen_llm.config import MemberConfig
from tests.members.ray.in_process import make_member

pytest.importorskip("xllamacpp")
pytest.importorskip("gguf")


def test_a_gguf_file_in_an_actor_says_what_it_says_here(tmp_path):
    from tests.gguf_models import write_llama

    path = str(write_llama(tmp_path / "tiny.gguf"))
    config = MemberConfig(model=path, device="ray", threads=1, context=64)
    assert config.held == MemberConfig(model=path, threads=1, context=64)
    near = config.held.load()
    member, _ = make_member(config.held.load)
    ids = near.vocabulary.encode("Once upon a time")
    assert member.vocabulary.encode("Once upon a time") == ids
    with torch.inference_mode():
        due = near.extend({near.open(): ids}).log_softmax(-1)
        assert torch.allclose(member.extend({member.open(): ids}), due, atol=1e-4)
    assert torch.equal(member.embeddings, near.embeddings)
    near.close()
