"""The suite that any member runs through: every kind there is passes it, and members with a fault do not."""

from __future__ import annotations

import subprocess
import sys
import zlib

import pytest
import torch

from deepen_llm.members.base import Pending, Ready
from deepen_llm.members.borrowed import BorrowedMember
from deepen_llm.members.source import SourceReader
from deepen_llm.members.transformers import TransformersMember
from deepen_llm.testing import MemberConformance, ScriptedMember
from deepen_llm.vocabulary import Vocabulary
from tests import toy_tokenizers
from tests.models import make_model


def make_scripted(cls=ScriptedMember):
    vocabulary = Vocabulary.from_tokenizer(toy_tokenizers.byte_level_bpe(), name="scripted")
    member = cls(vocabulary, [MemberConformance.text])
    member.change = depend_on_all
    return member


def depend_on_all(text, logits):
    """Logits that differ for every text, so that no wrong context passes for the right one."""
    return logits + torch.randn(len(logits), generator=torch.Generator().manual_seed(zlib.crc32(text)))


def make_random(kind):
    tokenizer = toy_tokenizers.byte_level_bpe()
    return TransformersMember(make_model(kind, vocab_size=len(tokenizer) + 3), tokenizer, name=kind)


class TestScripted(MemberConformance):
    def make_member(self):
        return make_scripted()

    def count_cached(self):
        return sum(map(len, self.member.rows.values()))


class TestLlama(MemberConformance):
    kind = "llama"

    def make_member(self):
        return make_random(self.kind)

    def count_cached(self):
        return self.member._rows._cache.num_slots * self.member._rows._cache.num_rows


class TestSlidingWindow(TestLlama):
    kind = "mistral-sliding"


class TestRecurrent(MemberConformance):
    def make_member(self):
        return make_random("mamba")


class TestBorrowed(MemberConformance):
    def make_member(self):
        self.lender = make_scripted()
        return BorrowedMember(self.lender)

    def close_member(self):
        self.lender.close()


class Late(Pending):
    """Computes when it is asked, too late for what was started after it."""

    def __init__(self, compute):
        self._compute = compute

    def result(self):
        return self._compute()


class KeepsWhatIsTakenBack(ScriptedMember):
    def rollback(self, row, num_tokens):
        pass


class PeeksForGood(ScriptedMember):
    def start_peek(self, branches):
        pending = super().start_peek(branches)
        for row, num_back, ids in branches:
            self.rows[row] = [*self.rows[row][: len(self.rows[row]) - num_back], *ids]
        return pending


class PeeksAtOneBranch(ScriptedMember):
    def start_peek(self, branches):
        return super().start_peek([branches[0]] * len(branches))


class SortsRows(ScriptedMember):
    def start_extend(self, tokens, measured=None):
        return super().start_extend(dict(sorted(tokens.items())), measured)


class SeesTheLastPortion(ScriptedMember):
    def start_extend(self, tokens, measured=None):
        for row in tokens:
            self.rows[row] = []
        return super().start_extend(tokens, measured)


class StartsLate(ScriptedMember):
    def start_extend(self, tokens, measured=None):
        return Late(super().start_extend(tokens).result) if len(tokens) > 1 else self._begin_late(dict(tokens))

    def _begin_late(self, tokens):
        return Late(lambda: ScriptedMember.start_extend(self, tokens).result())


class ReusesHandles(ScriptedMember):
    def open(self):
        self.rows.setdefault(len(self.rows) % 3, [])
        return (len(self.rows) - 1) % 3


class KeepsWhatWasReleased(ScriptedMember):
    def open(self):
        return next((row for row in self.rows if row in self.released), None) or super().open()

    def release(self, row):
        self.released.add(row)

    @property
    def released(self):
        return self.__dict__.setdefault("_released", set())


class MeasuresOthers(ScriptedMember):
    """Changes what it measures, which is asked for by row."""

    def start_extend(self, tokens, measured=None):
        started = super().start_extend(tokens, measured)
        return Ready(started.result(), self.alter({row: found.clone() for row, found in started.measured.items()}))


class MeasuresOneMore(MeasuresOthers):
    def alter(self, measured):
        return {row: torch.cat([torch.zeros(1), found]) for row, found in measured.items()}


class MeasuresInBits(MeasuresOthers):
    def alter(self, measured):
        return {row: found / 0.6931 for row, found in measured.items()}


class MeasuresInFloat64(MeasuresOthers):
    def alter(self, measured):
        return {row: found.double() for row, found in measured.items()}


class MeasuresRowsUnasked(MeasuresOthers):
    def alter(self, measured):
        return {row: found for found in measured.values() for row in self.rows}


class MeasuresTheNextToken(ScriptedMember):
    """Each token under the logits that came after it."""

    def _measure(self, ids, num):
        ends = range(len(ids) - num, len(ids))
        return torch.tensor([float(self._logits(ids[: end + 1]).log_softmax(dim=-1)[ids[end]]) for end in ends])


class MeasuresNothing(ScriptedMember):
    def start_extend(self, tokens, measured=None):
        return super().start_extend(tokens)


class PadsLogits(ScriptedMember):
    def start_extend(self, tokens, measured=None):
        return Ready(torch.nn.functional.pad(super().start_extend(tokens).result(), (0, 1)))


class FlatEmbeddings(ScriptedMember):
    @property
    def embeddings(self):
        return super().embeddings[0]


class NoJson(ScriptedMember):
    @property
    def identity(self):
        return {"dtype": torch.float32}


class TellsItsKey(ScriptedMember):
    @property
    def identity(self):
        return {"name": self.name, "server": {"api_key": "1234"}}


class TellsAPassword(ScriptedMember):
    @property
    def identity(self):
        return {"name": self.name, "server": "https://me:1234@example.org/v1"}


class NeverCloses(ScriptedMember):
    def close(self):
        pass


class OpensOverAnything(ScriptedMember):
    def open_over(self, source_ids):
        return self.open()


class ReadsNoSource(OpensOverAnything):
    @property
    def source_reader(self):
        return SourceReader(self.vocabulary, (), (), (), 512)


FAULTY = {
    KeepsWhatIsTakenBack: "test_rollback_equals_never_having_had_the_tokens",
    PeeksForGood: "test_peek_equals_extend_and_changes_nothing",
    PeeksAtOneBranch: "test_a_row_has_several_branches",
    SortsRows: "test_a_batch_equals_each_row_alone",
    SeesTheLastPortion: "test_extend_equals_one_token_at_a_time",
    StartsLate: "test_passes_take_effect_in_the_order_of_their_start",
    ReusesHandles: "test_handles_of_open_rows_are_distinct",
    KeepsWhatWasReleased: "test_a_new_row_begins_empty_whatever_was_released",
    MeasuresOneMore: "test_what_is_measured_on_the_way_equals_the_logprobs_of_extend",
    MeasuresInBits: "test_what_is_measured_on_the_way_equals_the_logprobs_of_extend",
    MeasuresInFloat64: "test_what_is_measured_on_the_way_equals_the_logprobs_of_extend",
    MeasuresRowsUnasked: "test_what_is_measured_on_the_way_equals_the_logprobs_of_extend",
    MeasuresTheNextToken: "test_what_is_measured_on_the_way_equals_the_logprobs_of_extend",
    PadsLogits: "test_logits_are_one_per_token_of_the_vocabulary",
    FlatEmbeddings: "test_embeddings_are_none_or_a_matrix",
    NoJson: "test_identity_is_json",
    TellsItsKey: "test_identity_holds_no_secrets",
    TellsAPassword: "test_identity_holds_no_secrets",
    OpensOverAnything: "test_a_source_is_read_row_by_row_or_by_nobody",
    ReadsNoSource: "test_a_source_is_read_row_by_row_or_by_nobody",
    NeverCloses: "test_a_closed_member_raises",
}


def run(make, test):
    suite = type("Suite", (MemberConformance,), {"make_member": lambda self: make()})()
    suite.setup_method()
    try:
        getattr(suite, test)()
    finally:
        suite.teardown_method()


@pytest.mark.parametrize("faulty", FAULTY, ids=lambda cls: cls.__name__)
def test_a_member_with_a_fault_is_found_out(faulty):
    run(make_scripted, FAULTY[faulty])
    with pytest.raises((AssertionError, TypeError)):
        run(lambda: make_scripted(faulty), FAULTY[faulty])


def test_a_member_need_not_measure():
    run(lambda: make_scripted(MeasuresNothing), "test_what_is_measured_on_the_way_equals_the_logprobs_of_extend")


def shake(size):
    def make():
        member = make_scripted()
        member.change = lambda text, logits: logits + size * torch.randn_like(logits)
        return member

    return make


def test_tolerances_tell_rounding_from_a_fault():
    test = "test_extend_equals_one_token_at_a_time"
    run(shake(1e-5), test)
    with pytest.raises(AssertionError, match=r"KL divergence is .* nats, and at most 4\.77e-07 is rounding"):
        run(shake(1e-2), test)


def test_a_text_that_is_too_short_is_refused():
    suite = TestScripted()
    suite.text = "the"
    with pytest.raises(AssertionError, match="must have 10 tokens or more and fit the context; it has 2"):
        suite.setup_method()
    suite.teardown_method()


def test_no_pytest_is_needed_to_import_it():
    code = "import sys, deepen_llm.testing; assert 'pytest' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
