"""Every kind of member through the same tests, and that those tests find members that break the contract."""

from __future__ import annotations

import subprocess
import sys
from zlib import crc32

import pytest
import torch

from deepen_llm.members.base import Ready
from deepen_llm.members.borrowed import BorrowedMember
from deepen_llm.members.transformers import TransformersMember
from deepen_llm.testing import MemberConformance, ScriptedMember
from deepen_llm.testing.conformance import TEXTS
from deepen_llm.vocabulary import Vocabulary
from tests import toy_tokenizers
from tests.models import make_model


def make_transformers_member(kind):
    tokenizer = toy_tokenizers.byte_level_bpe()
    return TransformersMember(make_model(kind, vocab_size=len(tokenizer) + 3), tokenizer, name=kind)


def make_scripted(tokenizer=toy_tokenizers.byte_level_bpe):
    """A scripted member of which every text has logits of its own: what it was fed shows in all of them."""
    member = ScriptedMember(Vocabulary.from_tokenizer(tokenizer(), name="scripted"), TEXTS)
    member.change = add_noise_of_the_text
    return member


def add_noise_of_the_text(text, logits):
    return logits + torch.randn(logits.shape, generator=torch.Generator().manual_seed(crc32(text)))


class TestScriptedMember(MemberConformance):
    num_layers = 0

    def make_member(self):
        return make_scripted()

    def count_cached(self, member):
        return len(member.rows)


class TestScriptedMemberOfSentencePieces(TestScriptedMember):
    def make_member(self):
        return make_scripted(tokenizer=toy_tokenizers.sentencepiece_bpe)


class TestBorrowedMember(MemberConformance):
    num_layers = 0
    is_closable = False

    def make_member(self):
        return BorrowedMember(make_scripted())


class TestLlama(MemberConformance):
    def make_member(self):
        return make_transformers_member("llama")

    def count_cached(self, member):
        return member._rows._cache.num_rows


class TestSlidingWindow(TestLlama):
    def make_member(self):
        return make_transformers_member("mistral-sliding")


class TestRecurrent(MemberConformance):
    def make_member(self):
        return make_transformers_member("mamba")

    def count_cached(self, member):
        return len(member._rows._rows)


def forget_to_roll_back(member):
    member.rollback = lambda row, num_tokens: None


def keep_what_was_peeked(member):
    member.start_peek = lambda branches: member.start_extend({row: ids for row, _, ids in branches})


def swap_rows(member):
    start = member.start_extend
    member.start_extend = lambda tokens: Ready(start(tokens).result().flip(0))


def shift_the_measure(member):
    measure = member.measure
    member.measure = lambda ids: measure(ids).roll(1)


def repeat_handles(member):
    def open_row():
        member.rows[0] = []
        return 0

    member.open, member.release = open_row, lambda row: None


def keep_released_rows(member):
    member.release = lambda row: None


def disturb_its_neighbours(member):
    rollback = member.rollback
    member.rollback = lambda row, num_tokens: [rollback(each, num_tokens) for each in member.rows]


def stay_open(member):
    member.close = lambda: None


def give_nan(member):
    member.change = lambda text, logits: logits + torch.nan


def leave_out_a_logit(member):
    start = member.start_extend
    member.start_extend = lambda tokens: Ready(start(tokens).result()[:, 1:])


def flatten_the_embeddings(member):
    member._embeddings = member._embeddings.flatten()


@pytest.mark.parametrize(
    ("spoil", "test"),
    [
        (forget_to_roll_back, "tokens_taken_back_equal_tokens_never_had"),
        (keep_what_was_peeked, "a_peek_equals_extend_and_changes_nothing"),
        (keep_what_was_peeked, "several_branches_of_one_row_and_of_others_run_in_one_pass"),
        (swap_rows, "rows_in_one_pass_equal_each_alone"),
        (swap_rows, "a_row_that_begins_while_others_run_disturbs_none"),
        (shift_the_measure, "measure_tells_the_log_probabilities_that_extend_gives"),
        (repeat_handles, "handles_of_open_rows_are_distinct_and_released_rows_are_free"),
        (keep_released_rows, "handles_of_open_rows_are_distinct_and_released_rows_are_free"),
        (disturb_its_neighbours, "rows_are_independent"),
        (stay_open, "a_closed_member_refuses_and_may_be_closed_again"),
        (give_nan, "logits_are_one_per_token_of_the_vocabulary"),
        (leave_out_a_logit, "logits_are_one_per_token_of_the_vocabulary"),
        (flatten_the_embeddings, "embeddings_are_a_matrix_or_none"),
    ],
)
def test_a_member_that_breaks_the_contract_is_found(spoil, test):
    class Broken(TestScriptedMember):
        def make_member(self):
            member = make_scripted()
            spoil(member)
            return member

    Broken.setup_class()
    with pytest.raises(AssertionError):
        getattr(Broken(), f"test_{test}")()


def test_a_kind_that_computes_less_exactly_says_by_how_much():
    class Rough(TestScriptedMember):
        def make_member(self):
            member, generator = make_scripted(), torch.Generator().manual_seed(0)
            member.change = lambda text, logits: logits + 0.05 * torch.randn(logits.shape, generator=generator)
            return member

    Rough.setup_class()
    with pytest.raises(AssertionError, match="not what a row of its own gives after the same tokens: KL divergence"):
        Rough().test_rows_in_one_pass_equal_each_alone()
    Rough.max_kl = 1e-2
    Rough().test_rows_in_one_pass_equal_each_alone()


def test_the_tests_can_be_imported_without_pytest():
    code = "import sys, deepen_llm.testing; assert 'pytest' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
