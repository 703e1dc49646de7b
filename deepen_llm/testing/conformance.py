"""What every member must do, as tests that any kind of member runs through."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar

import torch
from torch import Tensor

from deepen_llm.errors import ClosedError
from deepen_llm.members.base import Branch, Member
from deepen_llm.testing.closeness import error_of_kl, find_difference, kl_of_error, rounding_error

TEXTS = (
    "Once upon a time there was a little girl named Lily. She loved to play outside in the park with her dog.",
    "The capital of France is Paris, and the capital of Italy is Rome.",
    "The quick brown fox jumps over the lazy dog.",
)


class MemberConformance:
    """The contract of `Member` as tests: a subclass that pytest collects, and that says how to make the member.

        class TestMyMember(MemberConformance):
            def make_member(self):
                return MyMember("a/model")

    Whatever is computed in two ways (at once and token by token, in a batch and alone, peeked and fed) must give the
    same distribution: by default up to the rounding of `dtype` in `num_layers` layers; a kind that computes less
    exactly, such as one with quantized activations, sets `max_kl`.

    One member serves all tests of a class, and is closed after the last. The tests need pytest's names only, not
    pytest: `setup_class`, `teardown_class` and methods that begin with `test_`.
    """

    texts: ClassVar[Sequence[str]] = TEXTS
    """At least three, each of at least 8 tokens; the first longer than any window or distance between snapshots."""
    dtype: ClassVar[torch.dtype] = torch.float32
    """The number format in which the model computes."""
    num_layers: ClassVar[int] = 2
    """Layers of the model, 0 where nothing is computed."""
    hidden: ClassVar[int] = 64
    """Width of the model; the embeddings' own counts where the member shows them."""
    max_kl: ClassVar[float | None] = None
    """The KL divergence in nats that two ways to the same distribution may have; None: what rounding explains."""
    is_closable: ClassVar[bool] = True
    """False for a member that stays open when it is closed."""
    num_reopened: ClassVar[int] = 40
    """How many rows are opened, fed and released one after another: more than may be open at once, where it counts."""

    member: ClassVar[Member]

    def make_member(self) -> Member:
        """A new member with the context for all tokens of a text, and some more. To be overridden."""
        raise NotImplementedError

    def count_cached(self, member: Member) -> int | None:
        """What the member keeps for its rows, in whatever unit (rows, tokens, bytes); None where it cannot be told."""
        del member
        return None

    @classmethod
    def setup_class(cls) -> None:
        """Make the member."""
        cls.member = cls().make_member()

    @classmethod
    def teardown_class(cls) -> None:
        """Close the member."""
        cls.member.close()

    def test_it_tells_what_it_is(self) -> None:
        """Name, kind, context, memory, embeddings, and an identity that can be written as JSON."""
        member = self.member
        assert member.name and isinstance(member.name, str), "the name must be a string that is not empty"
        assert member.kind and isinstance(member.kind, str), "the kind must be a string that is not empty"
        assert member.context_length > max(map(len, self._contexts())), "the context must hold the texts of the test"
        assert member.weight_bytes >= 0, "weight_bytes must be a number of bytes"
        assert (member.cache_bytes_per_token or 0) >= 0, "cache_bytes_per_token must be None or a number of bytes"
        identity = dict(member.identity)
        assert json.loads(json.dumps(identity)) == identity, "the identity must be JSON values"
        assert identity == dict(member.identity), "the identity must stay the same"

    def test_embeddings_are_a_matrix_or_none(self) -> None:
        """Embeddings are None, or (rows, hidden) of finite numbers."""
        embeddings = self.member.embeddings
        if embeddings is not None:
            assert embeddings.ndim == 2 and embeddings.is_floating_point(), "embeddings must be (rows, hidden) floats"
            assert bool(embeddings.isfinite().all()), "embeddings must be finite"

    @torch.inference_mode()
    def test_logits_are_one_per_token_of_the_vocabulary(self) -> None:
        """Logits are (rows, num_logits) floats on the member's device, in which -inf rules a token out."""
        contexts = self._contexts()
        with self._open(len(contexts)) as rows:
            logits = self.member.extend(dict(zip(rows, contexts, strict=True)))
            assert logits.shape == (len(rows), len(self.member.vocabulary)), "logits must be (rows, len(vocabulary))"
            assert logits.is_floating_point() and logits.device == self.member.device
            assert not bool(logits.isnan().any() | logits.isposinf().any()), "logits must not be NaN or +inf"
            assert bool(logits.isfinite().any(dim=-1).all()), "every row must leave some token possible"

    @torch.inference_mode()
    def test_tokens_fed_at_once_equal_tokens_fed_in_pieces(self) -> None:
        """One by one, three by three, and as a long and a short piece: the logits after the last are the same."""
        ids = self._contexts()[0]
        for size in (1, 3, len(ids) - 2):
            with self._open(1) as (row,):
                for begin in range(0, len(ids), size):
                    logits = self.member.extend({row: ids[begin : begin + size]})
                self._check(logits[0], ids, f"fed {size} tokens at a time")

    @torch.inference_mode()
    def test_rows_in_one_pass_equal_each_alone(self) -> None:
        """Rows of different lengths begin together and go on in any order, with any number of tokens, some or all."""
        contexts = self._contexts()
        with self._open(len(contexts)) as rows:
            cuts = [3 + place for place in range(len(rows))]
            logits = self.member.extend({row: ids[:cut] for row, ids, cut in zip(rows, contexts, cuts, strict=True)})
            for got, ids, cut in zip(logits, contexts, cuts, strict=True):
                self._check(got, ids[:cut], "begun in one pass")
            logits = self.member.extend({rows[-1]: contexts[-1][cuts[-1] : cuts[-1] + 1]})
            self._check(logits[0], contexts[-1][: cuts[-1] + 1], "gone on without the others")
            cuts[-1] += 1
            rest = {row: ids[cut:] for row, ids, cut in reversed(list(zip(rows, contexts, cuts, strict=True)))}
            for got, ids in zip(self.member.extend(rest), reversed(contexts), strict=True):
                self._check(got, ids, "gone on in another order")

    @torch.inference_mode()
    def test_a_row_that_begins_while_others_run_disturbs_none(self) -> None:
        """A row that begins in the pass in which another goes on, and one that ends between two passes."""
        first, second, third = self._contexts()[:3]
        with self._open(2) as (one, two):
            self.member.extend({one: first[:5]})
            with self._open(1) as (gone,):
                logits = self.member.extend({gone: third, one: first[5:8], two: second[:4]})
                for got, ids in zip(logits, (third, first[:8], second[:4]), strict=True):
                    self._check(got, ids, "one begun, one gone on")
            logits = self.member.extend({two: second[4:], one: first[8:]})
            self._check(logits[0], second, "gone on after another was released")
            self._check(logits[1], first, "gone on after another was released")

    @torch.inference_mode()
    def test_tokens_taken_back_equal_tokens_never_had(self) -> None:
        """Few and many tokens taken back, one row and several."""
        first, second, third = self._contexts()[:3]
        for num_wrong in (1, 4, len(third)):
            with self._open(2) as (one, two):
                self.member.extend({one: first[:-3], two: second[:-2]})
                self.member.extend({one: third[:num_wrong]})
                self.member.rollback(one, num_wrong)
                self._check(self.member.extend({one: first[-3:]})[0], first, f"{num_wrong} tokens taken back")
                self._check(self.member.extend({two: second[-2:]})[0], second, "tokens taken back in another row")
        with self._open(1) as (row,):
            self.member.extend({row: first})
            self.member.rollback(row, len(first) - 2)
            self.member.rollback(row, 1)
            self._check(self.member.extend({row: first[1:6]})[0], first[:6], "all tokens but one taken back")

    @torch.inference_mode()
    def test_a_peek_equals_extend_and_changes_nothing(self) -> None:
        """A peek with and without tokens left out; then the row goes on as if there had been none."""
        first, second, third = self._contexts()[:3]
        with self._open(1) as (row,):
            self.member.extend({row: first[:-2]})
            for num_back, ids in ((0, second[:1]), (0, third[:4]), (3, second[:2])):
                got = self.member.peek([Branch(row, num_back, ids)])
                assert got.shape == (1, len(self.member.vocabulary)), "logits must be (branches, len(vocabulary))"
                kept = first[: len(first) - 2 - num_back]
                self._check(got[0], [*kept, *ids], f"peeked with {num_back} tokens left out")
            self._check(self.member.extend({row: first[-2:]})[0], first, "gone on after a peek")

    @torch.inference_mode()
    def test_several_branches_of_one_row_and_of_others_run_in_one_pass(self) -> None:
        """Branches of different lengths, two of them equal."""
        first, second, third = self._contexts()[:3]
        with self._open(2) as (one, two):
            self.member.extend({one: first[:-1], two: second[:-1]})
            branches = [
                Branch(one, 0, first[-1:]),
                Branch(two, 2, third[:3]),
                Branch(one, 5, second[:2]),
                Branch(one, 0, first[-1:]),
            ]
            expected = [first, [*second[:-3], *third[:3]], [*first[:-6], *second[:2]], first]
            for got, ids in zip(self.member.peek(branches), expected, strict=True):
                self._check(got, ids, "one of several branches")
            logits = self.member.extend({one: first[-1:], two: second[-1:]})
            self._check(logits[0], first, "gone on after several branches")
            self._check(logits[1], second, "gone on after several branches")

    @torch.inference_mode()
    def test_rows_are_independent(self) -> None:
        """Of two rows with the same tokens one goes on, is rolled back and released; the other does not notice."""
        first, second = self._contexts()[:2]
        with self._open(1) as (kept,):
            with self._open(1) as (other,):
                self.member.extend({kept: first[:-1], other: first[:-1]})
                self.member.extend({other: second})
                self.member.rollback(other, 2)
            self._check(self.member.extend({kept: first[-1:]})[0], first, "beside a row that was changed and released")

    @torch.inference_mode()
    def test_handles_of_open_rows_are_distinct_and_released_rows_are_free(self) -> None:
        """Rows come and go, also such as were never fed; a new one is empty, and what was cached is freed."""
        ids = self._contexts()[2]
        before = self.count_cached(self.member)
        with self._open(3) as rows:
            assert len({*rows}) == 3, "open rows must have handles of their own"
            self.member.extend({rows[0]: ids, rows[1]: ids[:2]})
            assert before is None or self.count_cached(self.member) != before, "rows that were fed must be counted"
        for _ in range(self.num_reopened):
            with self._open(1) as (row,):
                logits = self.member.extend({row: ids[:2]})
        self._check(logits[0], ids[:2], "after other rows were released")
        assert self.count_cached(self.member) == before, "release must free what the row had cached"

    @torch.inference_mode()
    def test_measure_tells_the_log_probabilities_that_extend_gives(self) -> None:
        """`(len(ids) - 1,)` float32 on the CPU, empty for less than two tokens; rows that are open stay as they are."""
        ids, other = self._contexts()[1:3]
        with self._open(2) as (row, beside):
            self.member.extend({beside: other[:-1]})
            measured = self.member.measure(ids)
            assert measured.shape == (len(ids) - 1,) and measured.dtype == torch.float32
            assert measured.device == torch.device("cpu")
            for place, token_id in enumerate(ids[:-1]):
                logits = self.member.extend({row: [token_id]})[0].double().cpu()
                due, got = float(logits.log_softmax(dim=-1)[ids[place + 1]]), float(measured[place])
                # A log-probability is the difference of a logit and of their log-sum-exp: each may be off.
                allowed = 2 * error_of_kl(self._max_kl(logits)) + torch.finfo(torch.float32).eps * abs(due)
                assert got == due or abs(got - due) <= allowed, f"token {place + 1}: measured {got}, extend says {due}"
            self._check(self.member.extend({beside: other[-1:]})[0], other, "gone on after measure")
        assert self.member.measure([]).shape == self.member.measure(ids[:1]).shape == (0,)

    @torch.inference_mode()
    def test_passes_take_effect_in_the_order_in_which_they_were_started(self) -> None:
        """Three passes are started before the first result is taken, the last two on one row."""
        first, second, third = self._contexts()[:3]
        with self._open(2) as (one, two):
            started = [
                self.member.start_extend({one: first}),
                self.member.start_extend({two: second}),
                self.member.start_peek([Branch(two, 1, third[:2])]),
            ]
            results = [pending.result() for pending in started]
            for got, ids in zip(results, (first, second, [*second[:-1], *third[:2]]), strict=True):
                self._check(got[0], ids, "started before the result of another was taken")

    def test_a_closed_member_refuses_and_may_be_closed_again(self) -> None:
        """`open`, `extend`, `peek` and `measure` raise ClosedError."""
        if not self.is_closable:
            return
        member = self.make_member()
        ids = self._contexts()[0]
        row = member.open()
        with torch.inference_mode():
            member.extend({row: ids[:2]})
        member.close()
        member.close()
        _check_closed("open", member.open)
        _check_closed("extend", lambda: member.extend({row: ids[:1]}))
        _check_closed("peek", lambda: member.peek([Branch(row, 0, ids[:1])]))
        _check_closed("measure", lambda: member.measure(ids))

    def _contexts(self) -> list[list[int]]:
        """The texts as the member's tokens, as prompts begin."""
        return [list(self.member.vocabulary.encode_prompt(text).ids) for text in self.texts]

    @contextmanager
    def _open(self, num_rows: int) -> Iterator[list[int]]:
        """Open rows for the length of a block."""
        rows = [self.member.open() for _ in range(num_rows)]
        try:
            yield rows
        finally:
            for row in rows:
                self.member.release(row)

    def _check(self, got: Tensor, ids: Sequence[int], what: str) -> None:
        """Compare logits `(num_logits,)` with those of a new row that is fed the tokens at once."""
        with self._open(1) as (row,):
            expected = self.member.extend({row: list(ids)})[0]
        difference = find_difference(got, expected, self._max_kl(expected))
        assert difference is None, f"{what}: not what a row of its own gives after the same tokens: {difference}"

    def _max_kl(self, logits: Tensor) -> float:
        if self.max_kl is not None:
            return self.max_kl
        embeddings = self.member.embeddings
        hidden = self.hidden if embeddings is None else embeddings.shape[1]
        largest = float(logits[logits.isfinite()].abs().max())
        return kl_of_error(rounding_error(largest, dtype=self.dtype, num_layers=self.num_layers, hidden=hidden))


def _check_closed(name: str, call: Callable[[], object]) -> None:
    try:
        call()
    except ClosedError:
        return
    raise AssertionError(f"{name} of a closed member must raise ClosedError")
