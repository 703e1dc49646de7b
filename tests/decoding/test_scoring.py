"""A continuation that is given."""

from __future__ import annotations

import pytest
import torch

from deepen_llm.decoding.scoring import ScoringSequence
from deepen_llm.errors import ContextLengthError
from deepen_llm.members.guarded import GuardedMember
from tests.decoding.steps import STORY, make_members


@pytest.fixture
def members(vocabularies):
    return make_members(vocabularies)


def make_scoring(members, ids):
    prompts = [member.vocabulary.encode_prompt(STORY[:9]) for member in members]
    return ScoringSequence([GuardedMember(member) for member in members], 0, prompts, ids)


def test_the_tokens_of_the_continuation_are_taken_whatever_is_best_and_their_log_probabilities_summed(members):
    ids = members[0].vocabulary.encode(" brown fox", at_start=False)
    logprobs = torch.randn(len(members[0].vocabulary), generator=torch.Generator().manual_seed(2)).log_softmax(dim=-1)
    sequence = make_scoring(members, ids)
    for token_id in ids:
        assert not sequence.is_finished
        assert sequence.choose(logprobs, best=0) == token_id
        sequence.accept(token_id, logprobs, None)
    score = sequence.result()
    assert sequence.is_finished and score.num_tokens == len(ids) and not score.is_greedy
    assert score.logprob == pytest.approx(float(logprobs[ids].double().sum()), abs=1e-4)


def test_it_is_greedy_where_every_token_is_the_best(members):
    ids = members[0].vocabulary.encode(" brown fox", at_start=False)
    sequence = make_scoring(members, ids)
    for token_id in ids:
        sequence.accept(sequence.choose(torch.zeros(1000), best=token_id), torch.zeros(1000), None)
    assert sequence.result().is_greedy


def test_a_continuation_that_does_not_fit_cannot_be_scored(members):
    sequence = make_scoring(members, [5])
    sequence.tracks[1].fed = [0] * members[1].context_length
    with pytest.raises(ContextLengthError, match="for member 'sentencepiece', whose context holds 512"):
        sequence.finish_full()
