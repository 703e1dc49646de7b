"""What the engine relies on in every member, as tests that any `Member` runs through."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from contextlib import suppress

import torch
from torch import Tensor

from deepen_llm.errors import ClosedError
from deepen_llm.members.base import Branch
from deepen_llm.testing.fork_conformance import ForkConformance
from deepen_llm.testing.member_tests import find_logprobs

SECRETS = re.compile(
    r"""(?ix) "[^"]*(secret|passw|api_?key|authorization|credential|access_?token|auth_?token)[^"]*"\s*:
    | \bhf_\w{16,} | \bsk-[\w-]{16,} | \bbearer\s+\S+ | ://[^/\s:@]+:[^/\s@]+@"""
)
"""What must not stand in an identity as JSON: names of secrets, services' keys, a password in an address."""


class MemberConformance(ForkConformance):
    """Tests of a member.

    Subclass it under a name that pytest collects, and say how the member is made:

        class TestMyMember(MemberConformance):
            def make_member(self):
                return MyMember(...)

    What else can be set is in `MemberTests`.
    """

    def test_logits_are_one_per_token_of_the_vocabulary(self) -> None:
        """`extend` and `peek` give (rows, num_logits) floating-point numbers on the member's device."""
        first, second = self.member.open(), self.member.open()
        extended = self.member.extend({first: self.ids[:3], second: self.others[:2]})
        peeked = self.member.peek([Branch(first, 0, self.others[:1])] * 3)
        for logits, num_rows in ((extended, 2), (peeked, 3)):
            due = (num_rows, len(self.member.vocabulary))
            assert logits.shape == due, f"logits must be of shape {due}; got {tuple(logits.shape)}"
            assert logits.is_floating_point(), f"logits must be floating-point numbers; got {logits.dtype}"
            assert logits.device.type == self.member.device.type, f"logits must lie on `device`; got {logits.device}"
            assert bool(logits.amax(dim=-1).isfinite().all()), "the greatest logit of a row must be a finite number"

    def test_what_it_tells_of_itself_can_be_used(self) -> None:
        """Name, context length and the memory that it takes."""
        member = self.member
        assert member.name, "`name` must not be empty: errors and traces call the member by it"
        assert member.context_length > 0, f"`context_length` must be positive; got {member.context_length}"
        assert member.weight_bytes >= 0, f"`weight_bytes` must not be negative; got {member.weight_bytes}"
        shared = member.shared_weight_bytes
        assert 0 <= shared <= member.weight_bytes, f"`shared_weight_bytes` are some of `weight_bytes`; got {shared}"
        cached = member.cache_bytes_per_token
        assert cached is None or cached > 0, f"`cache_bytes_per_token` must be positive, or None; got {cached}"

    def test_identity_is_json(self) -> None:
        """What is kept beside stored tables and cached answers can be written, and stays the same."""
        identity = dict(self.member.identity)
        assert identity, "`identity` must tell this member's answers from another's; it is empty"
        assert all(isinstance(key, str) for key in identity), f"the keys of `identity` must be strings; got {identity}"
        written = json.dumps(identity, allow_nan=False, sort_keys=True)
        again = json.dumps(dict(self.member.identity), allow_nan=False, sort_keys=True)
        assert written == again, f"`identity` must stay the same; it was {written} and is {again}"

    def test_identity_holds_no_secrets(self) -> None:
        """It stands in reports and names of files. What is found is not repeated in the message."""
        found = SECRETS.search(json.dumps(dict(self.member.identity), default=str))
        assert found is None, "`identity` must hold no secrets: leave keys, tokens and passwords out"

    def test_embeddings_are_none_or_a_matrix(self) -> None:
        """(rows, hidden), in the order of the ids."""
        embeddings = self.member.embeddings
        if embeddings is None:
            return
        assert embeddings.ndim == 2, f"`embeddings` must be (rows, hidden); got {tuple(embeddings.shape)}"
        assert embeddings.is_floating_point(), f"`embeddings` must be floating-point; got {embeddings.dtype}"
        assert not embeddings.requires_grad, "`embeddings` must be detached"

    def test_extend_equals_one_token_at_a_time(self) -> None:
        """What comes next does not depend on the portions in which a row was fed."""
        expected = self._after(self.ids)
        row = self.member.open()
        for token_id in self.ids[:-1]:
            self.member.extend({row: [token_id]})
        self._check_equal(self.member.extend({row: self.ids[-1:]})[0], expected, "after one token at a time")
        row = self.member.open()
        self.member.extend({row: self.ids[:4]})
        self._check_equal(self.member.extend({row: self.ids[4:]})[0], expected, "after two portions")

    def test_a_batch_equals_each_row_alone(self) -> None:
        """Rows of different lengths in one pass, in the order of the mapping and not of the handles."""
        texts = [self.ids, self.others[:3], self.ids[:5], self.others[:1]]
        expected = [self._after(ids) for ids in texts]
        rows = [self.member.open() for _ in texts]
        backwards = dict(reversed(list(zip(rows, texts, strict=True))))
        self._check_all(self.member.extend(backwards), expected[::-1], "in a batch")
        grown = [self._after([*ids, *self.others[:2]]) for ids in (texts[3], texts[0])]
        logits = self.member.extend({rows[3]: self.others[:2], rows[0]: self.others[:2]})
        self._check_all(logits, grown, "of some rows of a batch")

    def test_rollback_equals_never_having_had_the_tokens(self) -> None:
        """Tokens that were taken back leave nothing behind, also where other rows stand beside."""
        kept, beside = self.ids[:4], self.others[:2]
        expected = [self._after([*kept, *self.others[:2]]), self._after([*beside, self.ids[0]])]
        row, other = self.member.open(), self.member.open()
        self.member.extend({row: self.ids[:6], other: beside})
        self.member.extend({row: self.ids[6:7]})
        self.member.rollback(row, 1)
        self.member.rollback(row, 2)
        logits = self.member.extend({row: self.others[:2], other: self.ids[:1]})
        self._check_all(logits, expected, "after tokens were taken back")

    def test_a_row_may_lose_all_its_tokens(self) -> None:
        """It is then as good as new."""
        row = self.member.open()
        self.member.extend({row: self.others[:5]})
        self.member.rollback(row, 5)
        logits = self.member.extend({row: self.ids[:4]})
        self._check_equal(logits[0], self._after(self.ids[:4]), "after all tokens were taken back")

    def test_peek_equals_extend_and_changes_nothing(self) -> None:
        """With and without tokens left out, twice the same, and the row goes on as if nobody had looked."""
        row = self.member.open()
        self.member.extend({row: self.ids[:6]})
        for num_back, ids in ((0, self.others[:1]), (2, self.others[:3]), (5, self.ids[2:4])):
            expected = self._after([*self.ids[: 6 - num_back], *ids])
            for _ in range(2):
                peeked = self.member.peek([Branch(row, num_back, ids)])[0]
                self._check_equal(peeked, expected, f"of a peek {num_back} tokens back")
        self._check_equal(self.member.extend({row: self.ids[6:]})[0], self._after(self.ids), "after a peek")

    def test_a_row_has_several_branches(self) -> None:
        """In one pass, of different lengths, among branches of another row."""
        row, other = self.member.open(), self.member.open()
        self.member.extend({row: self.ids[:5], other: self.others[:3]})
        branches = [
            Branch(row, 0, self.others[:1]),
            Branch(other, 1, self.ids[:2]),
            Branch(row, 3, self.others[:3]),
            Branch(row, 0, self.ids[5:7]),
        ]
        fed = {row: self.ids[:5], other: self.others[:3]}
        expected = [self._after([*fed[at][: len(fed[at]) - back], *ids]) for at, back, ids in branches]
        self._check_all(self.member.peek(branches), expected, "of several branches")
        logits = self.member.extend({other: self.ids[:1], row: self.ids[5:6]})
        after = [self._after([*self.others[:3], self.ids[0]]), self._after(self.ids[:6])]
        self._check_all(logits, after, "after several branches")

    def test_rows_are_independent(self) -> None:
        """What is done to one row is not seen by another that holds the same text."""
        first, second, third = (self.member.open() for _ in range(3))
        self.member.extend(dict.fromkeys((first, second, third), self.ids[:5]))
        self.member.extend({first: self.others[:2]})
        self.member.rollback(third, 3)
        self.member.release(first)
        logits = self.member.extend({third: self.others[:1], second: self.ids[5:6]})
        expected = [self._after([*self.ids[:2], self.others[0]]), self._after(self.ids[:6])]
        self._check_all(logits, expected, "beside rows that grew, shrank and ended")

    def test_handles_of_open_rows_are_distinct(self) -> None:
        """Before and after rows are released, fed ones and others."""
        rows = [self.member.open() for _ in range(4)]
        self.member.extend({rows[1]: self.ids[:1], rows[3]: self.ids[:2]})
        for gone in (rows.pop(1), rows.pop(1)):
            self.member.release(gone)
        rows += [self.member.open() for _ in range(3)]
        assert len(set(rows)) == len(rows), f"no two open rows may have the same handle; got {rows}"

    def test_release_frees_a_row(self) -> None:
        """With the last row the cache is as empty as it was; where it can be counted, see `count_cached`."""
        before = self.count_cached()
        for _ in range(3):
            rows = [self.member.open() for _ in range(2)]
            self.member.extend({rows[0]: self.others, rows[1]: self.ids[:2]})
            for row in rows:
                self.member.release(row)
        after = self.count_cached()
        assert after == before, f"released rows must be freed: the cache held {before} and holds {after}"

    def test_a_new_row_begins_empty_whatever_was_released(self) -> None:
        """Rows that came and went are seen neither by a new row nor by one that stayed."""
        stays = self.member.open()
        self.member.extend({stays: self.ids[:3]})
        for _ in range(3):
            row = self.member.open()
            self.member.extend({row: self.others})
            self.member.release(row)
        row = self.member.open()
        logits = self.member.extend({row: self.ids[:2], stays: self.ids[3:5]})
        self._check_all(logits, [self._after(self.ids[:2]), self._after(self.ids[:5])], "after rows were released")

    def test_a_row_that_was_never_fed_may_be_released(self) -> None:
        """A request that ends before its first pass has opened its rows; those of others go on."""
        stays = self.member.open()
        self.member.extend({stays: self.ids[:3]})
        self.member.release(self.member.open())
        logits = self.member.extend({stays: self.ids[3:5]})[0]
        self._check_equal(logits, self._after(self.ids[:5]), "after a row that was never fed was released")

    def test_what_is_measured_on_the_way_equals_the_logprobs_of_extend(self) -> None:
        """Of some of the rows of a pass, or not told at all; for every number of tokens but the first."""
        row = self.member.open()
        expected = []
        for token_id, following in zip(self.ids, self.ids[1:], strict=False):
            expected.append(float(find_logprobs(self.member.extend({row: [token_id]})[0])[following]))
        for num in range(1, len(self.ids)):
            whole, other = self.member.open(), self.member.open()
            started = self.member.start_extend({other: self.others[:2], whole: self.ids}, {whole: num})
            self._check_equal(started.result()[1], self._after(self.ids), "of a pass that was measured")
            if not started.measured:
                continue
            assert set(started.measured) == {whole}, "only the rows are measured of which that was asked"
            self._check_measured(started.measured[whole], expected[-num:])

    def _check_measured(self, measured: Tensor, expected: Sequence[float]) -> None:
        assert measured.shape == (len(expected),), f"one number per token that counts; got {tuple(measured.shape)}"
        assert measured.dtype == torch.float32 and measured.device.type == "cpu", "float32, on the CPU"
        limit = 2 * self.logit_tolerance if self.logprob_tolerance is None else self.logprob_tolerance
        for place, (got, due) in enumerate(zip(measured.tolist(), expected, strict=True)):
            close = got == due or abs(got - due) <= limit
            assert close, f"`measured` gives place {place} {got} nats, `extend` {due}: further apart than {limit}"

    def test_logits_after_each_token_equal_those_of_a_token_a_pass(self) -> None:
        """Of rows that run and rows that begin, of all their tokens or some; or the member does not tell them."""
        if not self.member.tells_each:
            with suppress(TypeError):
                self.member.start_extend_each({self.member.open(): self.ids[:2]}, {0: 2})
                raise AssertionError("`start_extend_each` of a member without `tells_each` must raise a TypeError")
            return
        runs, begins, idle = (self.member.open() for _ in range(3))
        self.member.extend({idle: self.others[:2]})
        self.member.extend({runs: self.ids[:2]})
        tokens = {runs: self.ids[2:6], begins: self.others[:3]}
        logits = self.member.start_extend_each(tokens, {runs: 3, begins: 2}).result()
        expected = [self.ids[:4], self.ids[:5], self.ids[:6], self.others[:2], self.others[:3]]
        self._check_all(logits, [self._after(ids) for ids in expected], "after each of several tokens")
        self.member.rollback(runs, 3)
        self._check_equal(
            self.member.extend({runs: self.ids[3:5]})[0],
            self._after(self.ids[:5]),
            "of tokens that were taken back after they were fed together",
        )
        self._check_equal(
            self.member.extend({idle: self.others[2:3]})[0], self._after(self.others[:3]), "of a row that took no part"
        )

    def test_passes_take_effect_in_the_order_of_their_start(self) -> None:
        """Passes that are started one after the other and whose results are taken later, in order."""
        row, other = self.member.open(), self.member.open()
        first = self.member.start_extend({row: self.ids[:4]})
        second = self.member.start_extend({other: self.others[:3], row: self.ids[4:6]})
        self._check_all(first.result(), [self._after(self.ids[:4])], "of the first pass")
        expected = [self._after(self.others[:3]), self._after(self.ids[:6])]
        self._check_all(second.result(), expected, "of the second pass")

    def test_a_peek_that_is_started_after_an_extend_sees_its_tokens(self) -> None:
        """And an `extend` that is started after a peek is not seen by it."""
        row = self.member.open()
        passes = [
            self.member.start_extend({row: self.ids[:4]}),
            self.member.start_peek([Branch(row, 1, self.others[:2])]),
            self.member.start_extend({row: self.ids[4:6]}),
        ]
        texts = (self.ids[:4], [*self.ids[:3], *self.others[:2]], self.ids[:6])
        results = [started.result() for started in passes]
        for logits, ids in zip(results, texts, strict=True):
            self._check_all(logits, [self._after(ids)], "of passes under way together")

    def test_a_source_is_read_row_by_row_or_by_nobody(self) -> None:
        """Rows over sources of different lengths are as each alone; who has no encoder opens none."""
        reader = self.member.source_reader
        if reader is None:
            with suppress(TypeError):
                self.member.open_over(self.ids[:3])
                raise AssertionError("`open_over` of a member without a `source_reader` must raise a TypeError")
            return
        sources = [reader.frame(self.ids), reader.frame(self.others[:2])]
        alone = []
        for source_ids in sources:
            row = self.member.open_over(source_ids)
            alone.append(self.member.extend({row: self.ids[:3]})[0].clone())
            self.member.release(row)
        apart = float((find_logprobs(alone[0]) - find_logprobs(alone[1])).abs().max())
        assert apart > self.logit_tolerance, "other sources must give other logits; these are the same"
        rows = [self.member.open_over(source_ids) for source_ids in sources]
        self.member.extend({rows[1]: self.ids[:2]})
        logits = self.member.extend({rows[0]: self.ids[:3], rows[1]: self.ids[2:3]})
        self._check_all(logits, alone, "over sources of different lengths")

    def test_a_closed_member_raises(self) -> None:
        """`ClosedError` from whatever needs the model; it may be closed again."""
        row = self.member.open()
        self.member.extend({row: self.ids[:2]})
        self.close_member()
        uses: dict[str, Callable[[], object]] = {
            "open": self.member.open,
            "extend": lambda: self.member.extend({row: self.ids[2:3]}),
            "peek": lambda: self.member.peek([Branch(row, 0, self.ids[2:3])]),
        }
        for name, use in uses.items():
            with suppress(ClosedError):
                use()
                raise AssertionError(f"`{name}` of a closed member must raise a ClosedError; it raised nothing")
        self.close_member()
