"""One member of one sequence: which tokens its cache holds, which wait to be fed, and what it gave last."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import final

from torch import Tensor

from deepen_llm.decoding.alignment import Alignment, num_equal
from deepen_llm.decoding.own_probability import OwnProbability
from deepen_llm.decoding.past import LEAST_TOKENS, Past
from deepen_llm.decoding.prompt_words import MeasuredPrompt
from deepen_llm.decoding.speculation.read_ahead import Place, ReadAhead, measure
from deepen_llm.decoding.token_boundary import TokenBoundary
from deepen_llm.errors import ContextLengthError
from deepen_llm.members.base import Branch
from deepen_llm.members.guarded import GuardedMember
from deepen_llm.projection.results import Path, Projection
from deepen_llm.vocabulary import EncodedText

NUM_KNOWN = 8
"""Of how many of a prompt's last tokens it is known what they were given: an answer may change how they are cut."""


@final
class Track:
    """A row of a member's cache, kept in step with the sequence's text, and what was counted on the way."""

    num_reused = 0
    """How many of the tokens in the row another one had read before."""
    has_begun = False
    """Whether the member has been fed."""
    is_reading = True
    """Whether some of the prompt has not been fed yet."""
    measures_text = True
    """Whether what the member gives the tokens of an answer is measured as they are fed."""

    def __init__(
        self,
        member: GuardedMember,
        prompt: EncodedText,
        *,
        takes_main_tokens: bool,
        is_main: bool = False,
        num_spaces: int = 0,
    ) -> None:
        """Prepare a row for a prompt; nothing runs yet.

        Args:
            member: Whose row.
            prompt: In the member's tokens.
            takes_main_tokens: The member has the main model's vocabulary, and takes its tokens as they are, however it
                would cut the text itself.
            is_main: It is the main model, whose tokens are known as it chooses them.
            num_spaces: See `Alignment`.

        Raises:
            ContextLengthError: The prompt leaves no room for an answer in this member's context.
        """
        self.member = member
        self.takes_main_tokens = takes_main_tokens
        self.alignment = Alignment(member.vocabulary, prompt, num_spaces=num_spaces)
        self.pending = list(prompt.ids)
        self.fed: list[int] = []
        """Tokens of the text in the member's cache."""
        self.ahead = ReadAhead()
        """What the row holds behind them."""
        self.draft: list[int] = []
        """Tokens to be fed behind those that are pending, because they may come next."""
        self.told: dict[int, Place] = {}
        """What came after the last tokens of the text but the very last, where they were fed together: by how many
        tokens there were."""
        self.batch: Tensor | None = None
        """Next-token logits `(rows, num_logits)` of the last pass that the track was part of."""
        self.place = 0
        """Its row of them."""
        self.projection: Projection | None = None
        """What expanding the member's tokens came to at this step; None where none were."""
        self.gave = math.nan
        """The probability that the member gave the main model's last token by its own tokens; NaN: not known."""
        self.prompt: MeasuredPrompt | None = None
        """What the member gave the prompt, once it was fed and measured."""
        self._is_main, self._num_prompt = is_main, len(prompt.ids)
        self._source_ids = prompt.source_ids
        self._num_measured = 0 if takes_main_tokens or prompt.source_ids else NUM_KNOWN
        self.num_extra_rows = self.num_extra_passes = self.num_abstained = 0
        self.truncated_mass = 0.0
        """Summed over steps."""
        self._held: list[str] | None = None
        """While the member writes: the text that its alignment has not been told of."""
        self._held_bytes = b""
        self._num_next: int | None = None
        """How many of the pending tokens the next pass feeds; None: all."""
        self._row: int | None = None
        if len(self.pending) >= member.context_length:
            raise self.context_error()

    @cached_property
    def boundary(self) -> TokenBoundary:
        """The last boundary of the member's tokens, for a member whose distributions are projected."""
        return TokenBoundary(self.member.vocabulary)

    @cached_property
    def own(self) -> OwnProbability:
        """How probable the member finds the text, for a member whose distributions are projected."""
        return OwnProbability()

    def give_each(self, said: Sequence[int]) -> list[float]:
        """The probability of each of the last tokens of the main model, by their bytes; NaN where it is not known."""
        if self.takes_main_tokens:
            return [math.exp(logprob) for logprob in self.own.last(len(said))]
        tokens = self.member.vocabulary.tokens
        return self.own.give_each([len(tokens[token_id] or b"") for token_id in self.alignment.ids], said)

    def reach_text(self, probs: Tensor) -> None:
        """Find the last boundary of the text as it is; `probs` `(num_logits,)` are the member's after all of it."""
        self.boundary.move(self.alignment, probs)
        self.told = {number: place for number, place in self.told.items() if number >= self.boundary.num_before}
        self.gave = math.nan

    def note_text(self, probs: Tensor) -> None:
        """What the last token of the main model was given, once it is known how its bytes were projected."""
        mass = 1.0 if self.projection is None or not self.boundary.pending else self.projection.mass
        self.gave = self.own.reach(self.boundary.num_before, mass, probs)

    @property
    def logits(self) -> Tensor | None:
        """Next-token logits `(num_logits,)` after everything that was fed; None before the first pass."""
        return None if self.batch is None else self.batch[self.place]

    @property
    def row(self) -> int:
        """The handle of the row, opened when it is first asked for.

        Raises:
            MemberError: The member failed.
        """
        if self._row is None:
            self._row = self.member.open(self._source_ids)
        return self._row

    @property
    def num_fed(self) -> int:
        """How many tokens of the text are in the member's cache."""
        return len(self.fed)

    @property
    def num_left(self) -> int:
        """Tokens for which the member's context has room after the pending ones; negative where they do not fit."""
        return self.member.context_length - self.num_fed - len(self.pending)

    @property
    def is_full(self) -> bool:
        """Whether the pending tokens no longer fit into the member's context."""
        return self.num_left < 0

    def context_error(self) -> ContextLengthError:
        """What to say where the text does not fit."""
        num_tokens, fits = self.num_fed + len(self.pending), self.member.context_length
        return ContextLengthError(
            f"the text has {num_tokens} tokens for member {self.member.name!r}, whose context holds {fits}: "
            f"at most {fits - 1} of them leave room for an answer, shorten it"
        )

    def measure_prompt(self, num_tokens: int) -> None:
        """Have so many of the prompt's last tokens measured when it is fed; what an encoder reads is not predicted."""
        if not self._source_ids:
            self._num_measured = max(num_tokens, self._num_measured)

    @property
    def next_ids(self) -> list[int]:
        """The pending tokens that the next pass feeds: mostly all."""
        return self.pending[: self._num_next]

    def take_piece(self, most: int | None) -> int:
        """Have the next pass feed no more of the pending tokens than so many, None for all; how many it feeds."""
        self._num_next = most
        return len(self.next_ids)

    @property
    def num_measured(self) -> int:
        """How many of the tokens that the next pass feeds are to be measured: their last ones, never the first."""
        num_next = len(self.next_ids)
        wanted = num_next if self.measures_text and not self._is_main else 0
        if self.is_reading:
            wanted = num_next - self._num_unmeasured
        return max(min(wanted, num_next - 1), 0)

    @property
    def _num_unmeasured(self) -> int:
        """How many of the prompt's pending tokens come before those to be measured; negative where some were fed."""
        num_more = self.num_fed + len(self.pending) - self._num_prompt
        return len(self.pending) - (self._num_measured + num_more if self._num_measured else 0)

    @property
    def _num_to_measure(self) -> int:
        """Of how many of its last tokens a track that has not begun is to know how probable they were."""
        num_tokens = len(self.fed) + len(self.pending)
        wanted = self._num_measured + num_tokens - self._num_prompt if self._num_measured else 0
        return max(min(wanted, num_tokens - 1), 0)

    @property
    def past(self) -> Past:
        """What the row holds, what was read ahead included."""
        ids = [*self.fed, *self.ahead.ids]
        return Past(ids, [*self.own.first(self.num_fed), *[math.nan] * len(self.ahead.ids)])

    @property
    def coming(self) -> Past:
        """What the row of a track that has not begun will hold once it is fed, if the member tells what is measured."""
        ids, num_due = [*self.fed, *self.pending], self._num_to_measure
        known = [*self.own.first(len(ids)), *[math.nan] * len(ids)]
        return Past(ids, [*known[: len(ids) - num_due], *[0.0] * num_due], num_due)

    def begin_behind(self, row: int, past: Past, num_tokens: int) -> None:
        """Take a row that holds so many of another's tokens, at most as many as `Past.count_usable` says."""
        self._row, self.num_reused = row, num_tokens
        self.own.begin(past.logprobs[: min(num_tokens + 1, self.coming.count_common(past))])
        self.fed, self.pending = self.pending[:num_tokens], self.pending[num_tokens:]

    @property
    def is_worth_keeping(self) -> bool:
        """Whether the row holds enough that another may begin with."""
        return self._row is not None and self.has_begun and self.num_fed >= LEAST_TOKENS and not self._source_ids

    def detach(self) -> int:
        """Hand the row over: it is no longer the track's to release."""
        row, self._row = self.row, None
        return row

    def note_fed(self, batch: Tensor, place: int, measured: Sequence[float] | None = None) -> None:
        """Record that tokens went through a forward pass, as one row of it; and what was measured.

        What the first token of a further piece of the prompt was given is known from the pass before it.
        """
        ids = self.next_ids
        is_told = measured is not None or not self.num_measured
        if self.is_reading and self._num_unmeasured <= 0 and self.logits is not None and is_told:
            measured = [float(self.logits.float().log_softmax(dim=-1)[ids[0]]), *(measured or ())]
        self.own.feed(self.num_fed, ids, measured or ())
        self.fed += ids
        self.pending, self._num_next = self.pending[len(ids) :], None
        self.has_begun = True
        if self.is_reading and not self.pending:
            self._note_prompt()
        self.batch, self.place = batch, place

    def _note_prompt(self) -> None:
        """The prompt was read: keep what it was given, if that is known of all tokens of which it is asked."""
        num, self.is_reading = self._num_to_measure, False
        logprobs = self.own.last(num)
        if num and not any(map(math.isnan, logprobs)):
            self.prompt = MeasuredPrompt(self.member.vocabulary, tuple(self.fed), logprobs)

    @property
    def is_foreseen(self) -> bool:
        """Whether the pending tokens need no pass: they were fed before they were chosen."""
        return self.ahead.begins_with(self.pending)

    def take_foreseen(self) -> None:
        """The pending tokens are those that were read ahead, at its beginning: what was said then counts."""
        ahead, num_taken = self.ahead, len(self.pending)
        measured = ahead.measure(self.pending, self.num_measured) if self.num_measured else None
        self._note_told(ahead.places[: num_taken - 1], num_taken)
        self.ahead = ahead.after(num_taken)
        self.note_fed(*ahead.places[num_taken - 1], measured)

    @property
    def last_logits(self) -> Tensor | None:
        """Next-token logits `(num_logits,)` after everything in the row, what was read ahead included."""
        return self.ahead.places[-1].logits if self.ahead.ids else self.logits

    @property
    def num_told(self) -> int:
        """After how many of its last tokens the next pass has to tell the logits, where tokens are drafted."""
        return len(self.draft) + (self.num_measured + 1 if self.pending else 0)

    def note_read_ahead(self, batch: Tensor, begin: int) -> None:
        """Record that the pending tokens and the draft went through a pass, whose logits `num_told` rows begin there.

        They are rows of `batch`, `(rows, num_logits)`.
        """
        places = [Place(batch, begin + at) for at in range(self.num_told)]
        if self.pending:
            num_measured = self.num_measured
            said = self.next_ids[len(self.next_ids) - num_measured :]
            self._note_told(places[:num_measured], num_measured + 1)
            self.note_fed(*places[num_measured], measure(places[:num_measured], said) if num_measured else None)
            places = places[num_measured + 1 :]
        self.ahead = self.ahead.extended(self.draft, places)
        self.draft = []

    def _note_told(self, places: Sequence[Place], num_last: int) -> None:
        """Keep what comes after each of the last pending tokens, `num_last` of them, but the very last."""
        if not (self._is_main or self.takes_main_tokens):
            begin = self.num_fed + len(self.next_ids) - num_last + 1
            self.told |= dict(enumerate(places, start=begin))

    def drop_ahead(self) -> None:
        """Forget what was read ahead: the text went on in another way.

        Raises:
            MemberError: The member failed.
        """
        if num_tokens := len(self.ahead.ids):
            self.ahead = ReadAhead()
            self.member.rollback(self.row, num_tokens)

    def push(self, token_id: int, text: str, open_bytes: bytes) -> None:
        """Continue with a token of the main model.

        Args:
            token_id: The token.
            text: What became whole with it.
            open_bytes: Those of a character that is not complete yet.
        """
        self.projection = None
        if self.takes_main_tokens:
            self.pending.append(token_id)
        elif self._held is None:
            self._push_text(text, open_bytes)
        else:
            self._held.append(text)
            self._held_bytes = open_bytes

    def _push_text(self, text: str, open_bytes: bytes) -> None:
        """Continue with text, which may change how the last tokens are cut: roll back to what is unchanged."""
        kept = self.alignment.append(text, open_bytes)
        self.boundary.note_kept(kept)
        self.told = {number: place for number, place in self.told.items() if number <= kept}
        ids = self.alignment.ids
        if kept == len(ids) < self.num_fed:
            kept -= 1  # the text lost tokens and gained none: the last one is fed again for its logits
        self.own.keep(kept)
        if 1 < kept < self.num_fed:
            kept -= 1  # the last one that stays tells what the first new one is given
        if kept < self.num_fed:
            self.drop_ahead()
            self.member.rollback(self.row, self.num_fed - kept)
            del self.fed[kept:]
        self.pending = ids[self.num_fed :]

    def rewind(self, num_tokens: int) -> None:
        """Take back what the row holds beyond so many tokens.

        Raises:
            MemberError: The member failed.
        """
        if num_tokens < self.num_fed:
            self.drop_ahead()
            self.own.keep(num_tokens)
            self.member.rollback(self.row, self.num_fed - num_tokens)
            del self.fed[num_tokens:]

    def begin_writing(self) -> None:
        """The member writes: its row goes on with tokens of its own, and text waits until it has ended."""
        self._held, self._held_bytes = [], b""

    def end_writing(self, fed: Sequence[int]) -> None:
        """Read again, with the text that came meanwhile.

        Args:
            fed: What the row holds. It keeps that as far as the tokenizer cuts the text so.

        Raises:
            MemberError: The member failed.
        """
        held, self._held = "".join(self._held or ()), None
        self.alignment.append(held, self._held_bytes)
        ids = self.alignment.ids
        kept = num_equal(fed, ids)
        self.rewind(kept - 1 if kept == len(ids) < self.num_fed else kept)
        self.pending = ids[self.num_fed :]

    def branch(self, path: Path) -> Branch:
        """What `Member.peek` needs to tell what comes after a path from the boundary."""
        return self.boundary.branch(self.row, path, self.alignment.ids[: self.num_fed], self.ahead.ids)

    def note_projection(self, projection: Projection) -> None:
        """Record what expanding the member's tokens came to at this step."""
        self.projection = projection
        self.num_extra_rows += projection.num_rows
        self.num_extra_passes += projection.num_passes
        self.truncated_mass += projection.truncated_mass

    def release(self) -> None:
        """Free the row.

        Raises:
            MemberError: The member failed; the row counts as freed.
        """
        self.batch = self.projection = None
        self.ahead, self.told = ReadAhead(), {}
        if self._row is not None:
            row, self._row = self._row, None
            self.member.release(row)
