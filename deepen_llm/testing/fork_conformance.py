"""What the engine relies on in members that `can_fork`: rows that begin with what others hold."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from deepen_llm.members.base import Branch
from deepen_llm.testing.member_tests import MemberTests


class ForkConformance(MemberTests):
    """Tests of `Member.fork` and `Member.park`; a member that cannot fork has to say so."""

    def test_a_fork_equals_a_row_of_its_own(self) -> None:
        """With and without tokens left out, also of a fork; the row that was copied goes on as if it had not been."""
        if self._cannot_fork():
            return
        row = self.member.open()
        self.member.extend({row: self.ids[:6]})
        for num_back in (0, 1, 4):
            self._check_forks(row, self.ids[:6], num_back)
        self._check_equal(self.member.extend({row: self.ids[6:]})[0], self._after(self.ids), "of a row that was copied")

    def test_a_parked_row_is_forked_while_others_run(self) -> None:
        """By several rows at once, of different lengths, which stay when it is released."""
        if self._cannot_fork():
            return
        row, beside = self.member.open(), self.member.open()
        self.member.extend({row: self.ids[:7], beside: self.others[:3]})
        num_bytes = self.member.park(row)
        assert num_bytes >= 0, f"`park` must return how many bytes a row takes; got {num_bytes}"
        self._check_forks(row, self.ids[:7], 2)
        first, second = self._fork(row, self.ids[:7], 0), self._fork(row, self.ids[:7], 3)
        fed = {first[0]: [*first[1], *self.others[:1]], second[0]: [*second[1], *self.others[:2]]}
        logits = self.member.extend({beside: self.others[3:5], **fed})
        texts = (self.others[:5], [*self.ids[:7], *self.others[:1]], [*self.ids[:4], *self.others[:2]])
        self._check_all(logits, [self._after(ids) for ids in texts], "of forks beside a row that runs")
        self.member.release(row)
        logits = self.member.extend({second[0]: self.ids[:1]})
        self._check_equal(logits[0], self._after([*texts[2], self.ids[0]]), "of a fork whose parked row was released")

    def test_forks_and_parked_rows_are_freed(self) -> None:
        """Fed ones and others; see `count_cached`."""
        if self._cannot_fork():
            return
        before = self.count_cached()
        row = self.member.open()
        self.member.extend({row: self.ids[:6]})
        rows = [self._fork(row, self.ids[:6], back)[0] for back in (0, 2)]
        self.member.extend({rows[0]: self.others[:2]})
        self.member.park(row)
        for one in (row, *rows):
            self.member.release(one)
        after = self.count_cached()
        assert after == before, f"released rows must be freed: the cache held {before} and holds {after}"

    def _cannot_fork(self) -> bool:
        """Whether the member cannot fork; it then has to say so."""
        if self.member.can_fork:
            return False
        row = self.member.open()
        self.member.extend({row: self.ids[:2]})
        for name, use in (("fork", lambda: self.member.fork(row, 0)), ("park", lambda: self.member.park(row))):
            with suppress(TypeError):
                use()
                raise AssertionError(f"`{name}` of a member that does not `can_fork` must raise a TypeError")
        return True

    def _fork(self, row: int, ids: Sequence[int], num_back: int) -> tuple[int, list[int]]:
        """A row that begins with those of another that are not left out, and which of them it is still to be fed."""
        fork = self.member.fork(row, num_back)
        num_kept = len(ids) - num_back
        if fork is None:
            return self.member.open(), [*ids[:num_kept]]
        assert num_back <= fork.num_back < len(ids), f"`fork` leaves out at least {num_back}; got {fork.num_back}"
        return fork.row, [*ids[len(ids) - fork.num_back : num_kept]]

    def _check_forks(self, row: int, ids: Sequence[int], num_back: int) -> None:
        """A fork of a row that holds these tokens, and a fork of that, are as rows that were fed the same."""
        kept = [*ids[: len(ids) - num_back]]
        fork, missing = self._fork(row, ids, num_back)
        logits = self.member.extend({fork: [*missing, *self.others[:2]]})
        fed = [*kept, *self.others[:2]]
        self._check_equal(logits[0], self._after(fed), f"of a row without {num_back} tokens that was copied")
        second, missing = self._fork(fork, fed, 1)
        if not missing:
            peeked = self.member.peek([Branch(second, 0, self.ids[:1])])[0]
            self._check_equal(peeked, self._after([*fed[:-1], self.ids[0]]), "of a peek into a row that was not fed")
            self.member.rollback(second, 1)
            missing = fed[-2:-1]
        logits = self.member.extend({second: [*missing, self.others[2]], fork: self.ids[:1]})
        expected = [self._after([*fed[:-1], self.others[2]]), self._after([*fed, self.ids[0]])]
        self._check_all(logits, expected, "of a copy of a copy, and of that which was copied")
        self.member.release(fork)
        self.member.release(second)
