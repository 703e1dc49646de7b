"""The tokens that end an answer, and those that may not come."""

from __future__ import annotations

import math

import pytest
import torch

from deepen_llm.config import SamplingParams
from deepen_llm.decoding.ends import Ends, check_drawn
from deepen_llm.errors import ConfigError
from deepen_llm.members.generation_defaults import GenerationDefaults


@pytest.fixture
def vocabulary(vocabularies):
    return vocabularies["bpe"]


def make(vocabulary, defaults=None, **params):
    return Ends(SamplingParams(**params), vocabulary, defaults)


def special_of(vocabulary):
    """A special token that is no end-of-sequence, and how it is written."""
    token_id = min(vocabulary.special_ids - set(vocabulary.eos_ids))
    return token_id, vocabulary.display(token_id)


def test_ends_are_end_of_sequence_and_what_is_asked_for(vocabulary):
    word = vocabulary.encode(" fox", at_start=False)[0]
    special, written = special_of(vocabulary)
    assert make(vocabulary).ids == set(vocabulary.eos_ids)
    assert make(vocabulary, stop_token_ids=[word]).ids == {*vocabulary.eos_ids, word}
    assert make(vocabulary, stop=[written]).ids == {*vocabulary.eos_ids, special}
    assert make(vocabulary, stop=[written]).has_special
    assert not make(vocabulary, stop=["fox"], stop_token_ids=[word]).has_special


def test_no_end_may_come_before_its_time(vocabulary):
    word = vocabulary.encode(" fox", at_start=False)[0]
    ends = make(vocabulary, min_new_tokens=2, stop_token_ids=word)
    assert set(ends.ruled_out(0)) == set(ends.ruled_out(1)) == ends.ids
    assert ends.ruled_out(2) == () and not ends.is_too_early(2)


def test_an_ignored_end_never_comes_unless_it_is_asked_for(vocabulary):
    end = vocabulary.eos_ids[0]
    assert make(vocabulary, ignore_eos=True).ruled_out(9) == tuple(sorted(vocabulary.eos_ids))
    assert end not in make(vocabulary, ignore_eos=True, stop_token_ids=[end]).ruled_out(9)


def test_what_the_models_own_settings_suppress_does_not_come_unless_the_answer_stops_there(vocabulary):
    alone = [i for i, token in enumerate(vocabulary.tokens) if token and i not in vocabulary.same_ids]
    first, second, third = alone[:3]
    defaults = GenerationDefaults((first, second), (third,))
    ends = make(vocabulary, defaults, stop_token_ids=[second])
    assert set(ends.ruled_out(0)) == {first, third}
    assert ends.ruled_out(1) == (first,)


def test_a_special_stop_token_comes_with_what_the_main_model_gives_it_by_its_weight(vocabulary):
    special, _ = special_of(vocabulary)
    ends = make(vocabulary, stop_token_ids=[special])
    logits = torch.randn(len(vocabulary), generator=torch.Generator().manual_seed(3))
    may_come = vocabulary.allowed.clone()
    fused = logits.masked_fill(~may_come, -math.inf).log_softmax(dim=-1)
    may_come[special] = True
    expected = logits.masked_fill(~may_come, -math.inf).softmax(dim=-1)
    torch.testing.assert_close(ends.admit(fused, logits, 1.0).exp(), expected)
    half = ends.admit(fused, logits, 0.5).exp()
    assert float(half[special]) == pytest.approx(float(expected[special]) / 2)
    assert float(half.sum()) == pytest.approx(1.0, abs=1e-5)


def test_a_main_model_that_is_certain_of_a_special_stop_token_leaves_nothing_else(vocabulary):
    special, _ = special_of(vocabulary)
    logits = torch.zeros(len(vocabulary))
    logits[special] = 1e6
    fused = torch.zeros(len(vocabulary)).masked_fill(~vocabulary.allowed, -math.inf).log_softmax(dim=-1)
    admitted = make(vocabulary, stop_token_ids=[special]).admit(fused, logits, 1.0)
    assert int(admitted.argmax()) == special and not admitted.isnan().any()


def test_a_stop_token_that_the_main_model_does_not_have_is_refused(vocabulary):
    with pytest.raises(ConfigError, match=r"stop_token_ids has token ids of the main model 'bpe'.*; got 999999"):
        make(vocabulary, stop_token_ids=[999999])


def test_where_members_are_drawn_no_token_may_be_ruled_out_and_no_special_one_ends(vocabulary):
    check_drawn(make(vocabulary), (), vocabulary)
    token_id = vocabulary.encode(" fox", at_start=False)[0]
    with pytest.raises(ConfigError, match=r"cannot rule tokens out, .* by its own settings \(' fo"):
        check_drawn(make(vocabulary), (token_id,), vocabulary)
    with pytest.raises(ConfigError, match="only the main model knows its special tokens"):
        check_drawn(make(vocabulary, stop=[special_of(vocabulary)[1]]), (), vocabulary)
