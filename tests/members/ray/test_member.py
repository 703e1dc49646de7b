"""A member in an actor, with an actor in this process: see `in_process.py`. In a cluster: `test_in_a_cluster.py`."""

from __future__ import annotations

import logging

import pytest
import torch

from deepen_llm.assembly import find_main
from deepen_llm.errors import ClosedError, ConfigError, MemberError, MemberTimeoutError
from deepen_llm.members.ray import member as member_module
from deepen_llm.members.ray.host import ActorLateError, ActorLostError
from deepen_llm.testing import FaultyMember, MemberConformance
from deepen_llm.testing.faulty import once, raising
from tests.members.ray.in_process import make_member
from tests.members.test_conformance_suite import make_random, make_scripted

LOST = ActorLostError("the actor of member 'held' died: its machine burnt")


class TestScriptedInAnActor(MemberConformance):
    def make_member(self):
        return make_member(make_scripted)[0]


class TestLlamaInAnActor(MemberConformance):
    def make_member(self):
        return make_member(lambda: make_random("llama"))[0]


class DiesAtEveryFifthPass(dict):
    def pop(self, number, default=None):
        return LOST if number % 5 == 0 else default


class TestAnActorThatDiesAgainAndAgain(MemberConformance):
    """Whatever was under way, the answers are those of one that lives."""

    def make_member(self):
        logging.getLogger("deepen_llm").setLevel(logging.CRITICAL)
        member, self.host = make_member(lambda: make_random("llama"))
        self.host.fails = DiesAtEveryFifthPass()
        return member

    def teardown_method(self):
        logging.getLogger("deepen_llm").setLevel(logging.NOTSET)
        super().teardown_method()


def extend(member, tokens):
    with torch.inference_mode():
        return member.extend(tokens)


def test_what_the_member_says_of_itself_is_handed_on():
    inner = make_random("llama")
    member, _ = make_member(lambda: inner)
    assert member.vocabulary.fingerprint == inner.vocabulary.fingerprint
    assert member.context_length == inner.context_length and member.weight_bytes == inner.weight_bytes
    assert member.num_parameters == inner.num_parameters
    assert member.cache_bytes_per_token == inner.cache_bytes_per_token
    assert member.generation_defaults == inner.generation_defaults
    assert member.identity == {**inner.identity, "num_told": None}
    assert (member.kind, member.device.type, member.name) == ("ray", "cpu", "held")


def test_embeddings_are_fetched_in_pieces_once_when_they_are_asked_for(monkeypatch):
    inner = make_random("llama")
    member, host = make_member(lambda: inner)
    monkeypatch.setattr(member_module, "PIECE_BYTES", inner.embeddings[:100].nbytes)
    num_sent = len(host.sent)
    assert torch.equal(member.embeddings, inner.embeddings) and member.embeddings is member.embeddings
    pieces = [("read_embeddings", (start, start + 100)) for start in range(0, len(inner.embeddings), 100)]
    assert host.sent[num_sent:] == [("find_table", ()), *pieces]
    assert num_sent == 1 and host.sent[0][0] == "describe"


def test_a_member_without_embeddings_has_none_here_either(monkeypatch):
    inner = make_scripted()
    monkeypatch.setattr(type(inner), "embeddings", None)
    assert make_member(lambda: inner)[0].embeddings is None


def test_the_best_tokens_are_exact_and_what_is_left_is_spread():
    member, _ = make_member(make_scripted, top=5)
    row = member.open()
    logprobs = extend(member, {row: [1, 2]})[0]
    inner = make_scripted()
    expected = inner.extend({inner.open(): [1, 2]})[0].log_softmax(-1)
    best = expected.topk(5).indices
    assert torch.allclose(logprobs[best], expected[best])
    rest = torch.ones(len(expected), dtype=torch.bool)
    rest[best] = False
    assert len(set(logprobs[rest].tolist())) == 1
    assert float(logprobs.exp().sum()) == pytest.approx(1, abs=1e-5)


def test_one_that_tells_its_best_tokens_cannot_be_the_main_model():
    member, main = make_member(make_scripted, top=5)[0], make_scripted()
    with pytest.raises(ConfigError, match=r"member 'held' \(kind 'ray'\) tells those of its 5 most probable ones"):
        find_main("held", [main, member])
    assert find_main("held", [main, make_member(make_scripted)[0]]) == 1


def test_one_that_holds_a_member_which_tells_few_tells_no_more(monkeypatch):
    inner = make_scripted()
    monkeypatch.setattr(type(inner), "num_told", 7)
    assert make_member(lambda: inner)[0].num_told == 7
    assert make_member(lambda: inner, top=5)[0].num_told == 5


def test_changes_of_rows_ride_along_with_the_next_pass():
    member, host = make_member(make_scripted)
    rows = [member.open() for _ in range(3)]
    before = len(host.sent)
    extend(member, {rows[0]: [1, 2], rows[1]: [3]})
    member.rollback(rows[0], 1)
    member.release(rows[1])
    member.release(rows[2])
    extend(member, {rows[0]: [4]})
    assert [method for method, _ in host.sent[before:]] == ["run", "run"]
    assert list(host.actor._member.rows.values()) == [[1, 4]]


def test_with_the_last_row_the_actor_frees_its_cache_at_once():
    member, host = make_member(make_scripted)
    row = member.open()
    extend(member, {row: [1, 2]})
    member.release(row)
    assert host.sent[-1][0] == "change"
    host.ask("describe", timeout_s=1)
    assert host.actor._member.rows == {}


def test_all_members_are_asked_before_any_is_waited_for():
    members = [make_member(make_scripted) for _ in range(2)]
    started = [member.start_extend({member.open(): [1]}) for member, _ in members]
    assert all(host.sent[-1][0] == "run" and not host.num_runs for _, host in members)
    for one in started:
        one.result()


def test_an_actor_that_dies_between_two_passes_is_followed_by_one_that_knows_all_rows(caplog):
    member, host = make_member(lambda: make_random("llama"))
    whole = make_random("llama")
    row, other = member.open(), member.open()
    extend(member, {row: [1, 2, 3, 4], other: [5, 6]})
    member.rollback(row, 2)
    host.fails = {host.num_runs + 1: LOST}
    logits = extend(member, {row: [7], other: [8]})
    expected = extend(whole, {whole.open(): [1, 2, 7], whole.open(): [5, 6, 8]}).log_softmax(-1)
    assert torch.allclose(logits, expected, atol=1e-4)
    assert host.num_starts == 2
    assert "its machine burnt; another one is started and fed anew" in caplog.text


def test_passes_under_way_are_asked_again_in_their_order():
    member, host = make_member(lambda: make_random("llama"))
    row, new = member.open(), member.open()
    extend(member, {row: [1, 2]})
    host.fails = {host.num_runs + 1: LOST}
    first, second = member.start_extend({row: [3]}), member.start_extend({new: [4], row: [5]})
    with torch.inference_mode():
        results = [second.result(), first.result()]
    whole = make_random("llama")
    expected = [
        extend(whole, {whole.open(): [4], whole.open(): [1, 2, 3, 5]}).log_softmax(-1),
        extend(whole, {whole.open(): [1, 2, 3]}).log_softmax(-1),
    ]
    assert all(torch.allclose(*both, atol=1e-4) for both in zip(results, expected, strict=True))


def test_an_error_of_the_member_fails_its_pass_only_and_starts_no_other_actor():
    inner = FaultyMember(make_scripted())
    member, host = make_member(lambda: inner)
    row, other = member.open(), member.open()
    extend(member, {row: [1], other: [2]})
    inner.choose = once("result", raising(MemoryError("no room")))
    with pytest.raises(MemoryError, match="no room"):
        extend(member, {row: [3]})
    extend(member, {other: [4]})
    with pytest.raises(RuntimeError, match="can only be released"):
        member.start_extend({row: [5]})
    member.release(row)
    assert host.num_starts == 1


def test_one_that_dies_over_the_same_pass_again_and_again_fails_it_and_the_others_go_on(caplog):
    member, host = make_member(make_scripted, max_restarts=2)
    row, other = member.open(), member.open()
    extend(member, {other: [1, 2]})
    host.fails = {host.num_runs + number: LOST for number in (1, 2, 3)}
    poisonous, harmless = member.start_extend({row: [3]}), member.start_extend({other: [4]})
    with caplog.at_level(logging.CRITICAL, "deepen_llm"):
        with pytest.raises(MemberError, match=r"'held' died: .*, and so did 2 more over the same \(max_restarts=2\)$"):
            poisonous.result()
        harmless.result()
    assert host.num_starts == 4
    assert list(host.actor._member.rows.values()) == [[1, 2, 4]]


def test_without_restarts_the_first_death_is_told_and_the_next_request_finds_another_actor():
    member, host = make_member(make_scripted, max_restarts=0)
    host.fails = {1: LOST}
    with pytest.raises(MemberError, match=r"member 'held' died: its machine burnt \(max_restarts=0\)$"):
        extend(member, {member.open(): [1]})
    extend(member, {member.open(): [1]})
    assert host.num_starts == 2


def test_on_member_failure_fail_starts_no_other_actor():
    member, host = make_member(make_scripted, on_member_failure="fail")
    row, other, new = member.open(), member.open(), member.open()
    extend(member, {row: [1], other: [2]})
    host.fails = {host.num_runs + 1: LOST}
    passes = [member.start_extend({row: [3]}), member.start_extend({new: [3]})]
    for one in passes:
        with pytest.raises(MemberError, match="its machine burnt; with on_member_failure='fail' it stays so"):
            one.result()
    with pytest.raises(RuntimeError, match="can only be released"):
        member.start_extend({other: [1]})
    with pytest.raises(MemberError, match="on_member_failure='fail'"):
        extend(member, {member.open(): [1]})
    assert host.num_starts == 1


def test_a_pass_that_takes_too_long_fails_and_its_actor_is_ended(caplog):
    member, host = make_member(make_scripted)
    row, other = member.open(), member.open()
    extend(member, {other: [1]})
    host.fails = {host.num_runs + 1: ActorLateError("too late")}
    passes = [member.start_extend({row: [2]}), member.start_extend({other: [3]})]
    with pytest.raises(MemberTimeoutError, match="too late"):
        passes[0].result()
    assert not host.is_running
    passes[1].result()
    assert host.num_starts == 2 and list(host.actor._member.rows.values()) == [[1, 3]]


def test_a_time_limit_of_the_member_in_the_actor_is_an_error_of_the_member():
    inner = FaultyMember(make_scripted())
    member, host = make_member(lambda: inner)
    row = member.open()
    inner.choose = once("result", raising(MemberTimeoutError("its server is slow")))
    with pytest.raises(MemberTimeoutError, match="its server is slow"):
        extend(member, {row: [2]})
    assert host.is_running and host.num_starts == 1


def test_an_actor_that_could_not_be_fed_anew_is_not_asked_again(monkeypatch):
    member, host = make_member(make_scripted)
    row, other = member.open(), member.open()
    extend(member, {row: [1], other: [1]})
    host.fails = {host.num_runs + 1: LOST}
    passes = [member.start_extend({row: [2]}), member.start_extend({other: [2]})]
    answer = host.answer

    def break_restore(call):
        if call[1] == "restore":
            call[3] = ("error", ValueError("lost in pickling"))
            monkeypatch.setattr(host, "answer", answer)
        else:
            answer(call)

    monkeypatch.setattr(host, "answer", break_restore)
    with pytest.raises(ValueError, match="lost in pickling"):
        passes[0].result()
    passes[1].result()
    assert host.num_starts == 3


def test_embeddings_are_fetched_of_another_actor_where_one_died(caplog):
    inner = make_random("llama")
    member, host = make_member(lambda: inner)
    host.actor = None
    assert torch.equal(member.embeddings, inner.embeddings)
    assert host.num_starts == 2


def test_closing_ends_the_actor_and_rows_may_still_be_released():
    member, host = make_member(make_scripted)
    row = member.open()
    member.close()
    member.close()
    assert not host.is_running and member._connection.is_closed
    member.release(row)
    with pytest.raises(ClosedError, match="member 'held' is closed"):
        _ = member.embeddings
