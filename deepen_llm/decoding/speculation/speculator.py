"""Speculation: who writes ahead for whom, and what the members are fed beyond the text.

An ensemble's step costs a pass of every member. A pass over a few tokens costs a large member little more than one over
a single token, so that it is fed what may come next as well: what the text itself suggests (`TokenLookup`), or what the
cheapest member writes by itself. The steps that follow then go on as always, each with the distributions of all members
behind exactly the text that was chosen; a step whose tokens were foreseen needs no pass (`Track.take_foreseen`), and
where the text takes another way, what was read ahead is taken back. So every token is chosen as it is without it.

After "Speculative Ensemble" (arXiv 2502.01662), where members share one vocabulary and a token is accepted or drawn
anew; here drafts are text, which each member has in its own tokens, and nothing is accepted that was not chosen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import final

import torch

from deepen_llm.decoding.sequence import RunningSequence
from deepen_llm.decoding.speculation.drafts import GIVEN, WRITTEN, Drafted, Sources
from deepen_llm.decoding.speculation.length import Cost
from deepen_llm.decoding.speculation.read_ahead import Place
from deepen_llm.decoding.track import Track
from deepen_llm.errors import DeepenError
from deepen_llm.members.guarded import GuardedMember

FIXED_BYTES = 20 << 20
"""What a pass takes beside reading the weights, in the time that it takes to read so many bytes of them."""
FEW = 2
"""Of members whose passes cost little more than a step beside them, drafts are checked for so many answers at once."""
MOST_GIVEN = 32
"""Of a text that is given, so many tokens are read ahead."""
Feed = Callable[[Sequence[int], Sequence[RunningSequence]], None]
"""Feeds members, by position, the pending tokens of sequences."""


@final
@dataclass(eq=False)
class _Writing:
    """A text that a member goes on with."""

    sequence: RunningSequence
    most: int
    """Tokens of the main model."""
    cost: Cost
    ids: list[int] = field(default_factory=list)
    """The writer's own tokens behind the text."""
    draft: list[Drafted] = field(default_factory=list)
    chance: float = 1.0
    """That all of it comes true."""
    claimed: float = 1.0
    """The same, if the writer had its way."""

    def begin(self, track: Track) -> bool:
        """Go on from what the writer has written already; whether it has the whole text."""
        self.ids = list(track.ahead.ids)
        if track.batch is not None and self.ids:
            self.claimed = math.exp(sum(track.ahead.measure_all(Place(track.batch, track.place))))
        return not track.alignment.missing

    def take(self, found: Sequence[int]) -> None:
        """What the writer's tokens are in those of the main model, no more than are wanted."""
        found = found[: self.most]
        self.draft = [Drafted(token_id, WRITTEN, self.claimed ** (1 / len(found))) for token_id in found]


@final
class Speculator:
    """Reads ahead for an ensemble's sequences."""

    def __init__(
        self, members: Sequence[GuardedMember], main: int, num_tokens: int, *, remembers_answers: bool = True
    ) -> None:
        """`num_tokens` are read ahead at most; what earlier answers said is looked up where they are remembered."""
        self._members, self._main, self._num_tokens = tuple(members), main, num_tokens
        costs = [member.member.weight_bytes + FIXED_BYTES for member in members]
        able = [index for index, member in enumerate(members) if member.tells_each]
        self._costly = max(range(len(members)), key=lambda index: (costs[index], index == main))
        """Whose passes are to be saved."""
        self._saves_much = costs[self._costly] >= 4 * FIXED_BYTES
        writers = [index for index in able if index != self._costly]
        self._writer = min(writers, key=lambda index: costs[index]) if writers else None
        self._able = able
        self._sources = Sources(remembers_answers=remembers_answers)
        total = sum(costs)
        check_costs = (cost * member.member.token_cost for cost, member in zip(costs, members, strict=True))
        self._check_cost = sum(check_costs) / total
        self._write_cost = 0.0 if self._writer is None else costs[self._writer] / total

    def is_foreseen(self, sequence: RunningSequence) -> bool:
        """Whether the next step of a sequence takes no pass that costs much."""
        return sequence.tracks[self._costly].is_foreseen

    def choose_next(self, sequences: Sequence[RunningSequence]) -> Sequence[RunningSequence]:
        """Those of the sequences that take the next step: all, or those for which it was foreseen.

        Where passes are dear, the others wait, so that all that need one share it. Where a step by itself costs nearly
        as much, nobody waits.
        """
        foreseen = list(filter(self.is_foreseen, sequences)) if self._saves_much else ()
        return foreseen or sequences

    def prepare(
        self, sequences: Sequence[RunningSequence], feed: Feed, failed: dict[RunningSequence, DeepenError]
    ) -> None:
        """Set what the members are to be fed beyond the pending tokens at this step."""
        writing: list[_Writing] = []
        # In a pass every row is as wide as the widest, so that a token of one is paid for by all.
        check = self._check_cost * len(sequences)
        looked_up, written = Cost(write=0.0, check=check), Cost(write=self._write_cost, check=check)
        for sequence in sequences:
            for track in sequence.tracks:
                track.draft = []
            most = min(self._find_most(sequence), self._num_tokens)
            if most <= 0:
                continue
            sequence.drafts.settle(self._sources, sequence.chosen_ids)
            if given := sequence.given_ids[:-1][:MOST_GIVEN]:
                self._offer(sequence, [Drafted(token_id, GIVEN) for token_id in given])
            elif not self._saves_much and len(sequences) > FEW:
                continue
            elif draft := sequence.drafts.look_up(self._sources, looked_up, most):
                self._offer(sequence, draft)
            elif self._writer is not None and self._writer not in sequence.resting:
                writing.append(_Writing(sequence, most, written))
        if writing and self._writer is not None:
            self._write(self._writer, writing, feed, failed)

    def _find_most(self, sequence: RunningSequence) -> int:
        """How many tokens may be read ahead of a sequence at this step."""
        costly = sequence.tracks[self._costly]
        if self._costly not in self._able:
            return 0
        begins = any(track.is_reading for track in sequence.tracks)
        if begins or costly.is_foreseen or not costly.pending or self._costly in sequence.resting:
            return 0
        return 0 if sequence.open_bytes else sequence.most_ahead

    def _offer(self, sequence: RunningSequence, draft: Sequence[Drafted], writer: int | None = None) -> None:
        """Have the members check a draft, but for the one that wrote it."""
        ids = [drafted.token_id for drafted in draft]
        vocabulary = self._members[self._main].vocabulary
        text = _decode(vocabulary.join(ids))
        for index in self._able:
            track = sequence.tracks[index]
            if index != writer and index not in sequence.resting and not track.is_foreseen:
                ahead = ids if track.takes_main_tokens or index == self._main else track.alignment.foresee(text)
                track.draft = ahead[: max(track.num_left, 0)]
        sequence.drafts.begin(draft)

    def _write(
        self, writer: int, writing: Sequence[_Writing], feed: Feed, failed: dict[RunningSequence, DeepenError]
    ) -> None:
        """Have one member go on with the texts by itself, a token a pass, and offer what it writes to the others."""
        feed([writer], [one.sequence for one in writing])
        active = [w for w in writing if w.sequence not in failed and w.begin(w.sequence.tracks[writer])]
        for one in active:
            one.take(self._translate(writer, one.ids))
            one.chance = one.claimed * self._sources.rates[WRITTEN].share
        while active:
            going: list[_Writing] = []
            for one, (token_id, claimed) in zip(active, self._choose(writer, active), strict=True):
                if self._writes_on(writer, one, token_id, claimed):
                    one.sequence.tracks[writer].draft = [token_id]
                    going.append(one)
            if going:
                feed([writer], [one.sequence for one in going])
            active = [one for one in going if one.sequence not in failed]
        for one in writing:
            if one.draft and one.sequence not in failed:
                self._offer(one.sequence, one.draft, writer)

    def _writes_on(self, writer: int, one: _Writing, token_id: int, claimed: float) -> bool:
        """Draft one more token, if that pays; whether another is to be written behind it."""
        share = self._sources.rates[WRITTEN].share * claimed
        chance = (one.chance if one.ids else 1.0) * share
        if not self._members[writer].vocabulary.tokens[token_id] or not one.cost.pays_to_check(chance):
            return False
        one.ids.append(token_id)
        one.chance, one.claimed = chance, one.claimed * claimed
        one.take(self._translate(writer, one.ids))
        return len(one.draft) < one.most and one.cost.pays_to_write_on(chance, share)

    def _choose(self, writer: int, writing: Sequence[_Writing]) -> list[tuple[int, float]]:
        """The writer's best token for each text, and its probability."""
        said = (one.sequence.tracks[writer].last_logits for one in writing)
        logits = torch.stack([one for one in said if one is not None])
        probs, ids = logits.float().softmax(dim=-1).max(dim=-1)
        return list(zip(ids.tolist(), probs.tolist(), strict=True))

    def _translate(self, writer: int, ids: Sequence[int]) -> list[int]:
        """A member's tokens as the main model's."""
        if writer == self._main:
            return list(ids)
        text = _decode(self._members[writer].vocabulary.join(ids))
        return self._members[self._main].vocabulary.encode(text, at_start=False) if text else []


def _decode(data: bytes) -> str:
    """The text that bytes begin with, up to where they are none, or a character is not complete."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        return data[: error.start].decode()
