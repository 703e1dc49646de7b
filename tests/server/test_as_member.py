"""A member of one ensemble that another ensemble's server offers."""

from __future__ import annotations

import pytest

from deepen_llm import Ensemble, FusionConfig, MemberConfig, SamplingParams
from deepen_llm.errors import MemberError
from deepen_llm.starter import find_models

QUESTIONS = [f"Question: What is the capital of {name}? Answer:" for name in ("France", "Peru", "Kenya", "Norway")]
HOW = {"weights": [0.5, 0.5], "fusion": FusionConfig(method="text")}


def test_a_member_behind_a_server_answers_as_the_same_one_in_this_process(server):
    main, other = find_models(["llama", "neox"])
    remote = MemberConfig(model=server.address, tokenizer=other, server_model="neox", top=1000)
    params = SamplingParams(max_new_tokens=8)
    with (
        Ensemble.from_pretrained([main, remote], **HOW) as behind,
        Ensemble.from_pretrained([main, other], **HOW) as here,
    ):
        texts = [answer.text for answer in behind.generate(QUESTIONS, params)]
        assert texts == [answer.text for answer in here.generate(QUESTIONS, params)]


def test_a_member_that_the_server_does_not_offer_is_refused(server):
    main, other = find_models(["llama", "neox"])
    with pytest.raises(MemberError, match="'gpt'"):
        Ensemble.from_pretrained([main, MemberConfig(model=server.address, tokenizer=other, server_model="gpt")], **HOW)
