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

from collections.abc import Callable, Sequence
from typing import final

import torch

from deepen_llm.decoding.sequence import RunningSequence
from deepen_llm.decoding.speculation.drafts import WRITTEN
from deepen_llm.decoding.speculation.length import Cost
from deepen_llm.errors import DeepenError
from deepen_llm.members.guarded import GuardedMember

FIXED_BYTES = 20 << 20
"""What a pass takes beside reading the weights, in the time that it takes to read so many bytes of them."""
CHECK_COST = 0.06
"""What one more token costs in a pass, as a share of it."""
MOST_GIVEN = 32
"""Of a text that is given, so many tokens are read ahead."""
SURE = 0.35
"""A member goes on writing ahead while it gives its best token at least this much."""

Feed = Callable[[Sequence[int], Sequence[RunningSequence]], None]
"""Feeds members, by position, the pending tokens of sequences."""


@final
class Speculator:
    """Reads ahead for an ensemble's sequences."""

    def __init__(self, members: Sequence[GuardedMember], main: int, num_tokens: int) -> None:
        """`num_tokens` are written ahead at most."""
        self._members, self._main, self._num_tokens = tuple(members), main, num_tokens
        costs = [member.member.weight_bytes + FIXED_BYTES for member in members]
        able = [index for index, member in enumerate(members) if member.tells_each]
        self._costly = max(range(len(members)), key=lambda index: (costs[index], index == main))
        """Whose passes are to be saved."""
        writers = [index for index in able if index != self._costly]
        self._writer = min(writers, key=lambda index: costs[index]) if writers else None
        self._able = able if self._costly in able else []
        total = sum(costs)
        self._looked_up = Cost(write=0.0, check=CHECK_COST)
        self._written = Cost(write=0 if self._writer is None else costs[self._writer] / total, check=CHECK_COST)

    def is_foreseen(self, sequence: RunningSequence) -> bool:
        """Whether the next step of a sequence takes no pass that costs much."""
        return sequence.tracks[self._costly].is_foreseen

    def prepare(
        self, sequences: Sequence[RunningSequence], feed: Feed, failed: dict[RunningSequence, DeepenError]
    ) -> None:
        """Set what the members are to be fed beyond the pending tokens at this step."""
        writing: dict[RunningSequence, int] = {}
        for sequence in sequences:
            for track in sequence.tracks:
                track.draft = []
            most = min(self._find_most(sequence), self._num_tokens)
            if most <= 0:
                continue
            sequence.drafts.settle(sequence.chosen_ids)
            if given := sequence.given_ids[:-1][:MOST_GIVEN]:
                self._offer(sequence, None, list(given))
                continue
            source, ids = sequence.drafts.look_up(sequence.chosen_ids, self._looked_up, most)
            if ids:
                self._offer(sequence, source, ids)
            elif length := self._find_length(sequence, most):
                writing[sequence] = length
        if writing and self._writer is not None:
            self._write(self._writer, writing, feed, failed)

    def _find_most(self, sequence: RunningSequence) -> int:
        """How many tokens may be read ahead of a sequence at this step."""
        costly = sequence.tracks[self._costly]
        begins = any(track.is_reading for track in sequence.tracks)
        if begins or costly.is_foreseen or not costly.pending or self._costly in sequence.resting:
            return 0
        return 0 if sequence.open_bytes else sequence.most_ahead

    def _find_length(self, sequence: RunningSequence, most: int) -> int:
        """How many tokens are to be written ahead; none where nobody can."""
        if self._writer is None or self._writer in sequence.resting:
            return 0
        return sequence.drafts.choose_length(self._written, most)

    def _offer(self, sequence: RunningSequence, source: int | None, ids: list[int], writer: int | None = None) -> None:
        """Have the members check a draft, but for the one that wrote it."""
        vocabulary = self._members[self._main].vocabulary
        text = _decode(vocabulary.join(ids))
        for index in self._able:
            track = sequence.tracks[index]
            if index != writer and index not in sequence.resting and not track.ahead.ids:
                ahead = ids if track.takes_main_tokens or index == self._main else track.foresee(text)
                track.draft = ahead[: max(track.num_left, 0)]
        sequence.drafts.begin(source, ids, len(sequence.chosen_ids))

    def _write(
        self,
        writer: int,
        writing: dict[RunningSequence, int],
        feed: Feed,
        failed: dict[RunningSequence, DeepenError],
    ) -> None:
        """Have one member go on with the texts by itself, a token a pass, and offer what it writes to the others."""
        feed([writer], list(writing))
        active = [s for s in writing if s not in failed and not s.tracks[writer].alignment.missing]
        written = {sequence: list(sequence.tracks[writer].ahead.ids) for sequence in active}
        offers: dict[RunningSequence, list[int]] = {}
        while active:
            going: list[RunningSequence] = []
            for sequence, token_id in zip(active, self._choose(writer, active), strict=True):
                if token_id is not None:
                    written[sequence].append(token_id)
                offers[sequence] = self._translate(writer, written[sequence])
                if token_id is not None and len(offers[sequence]) < writing[sequence]:
                    sequence.tracks[writer].draft = [token_id]
                    going.append(sequence)
            if going:
                feed([writer], going)
            active = [sequence for sequence in going if sequence not in failed]
        for sequence, ids in offers.items():
            if ids and sequence not in failed:
                self._offer(sequence, WRITTEN, ids[: self._num_tokens], writer)

    def _choose(self, writer: int, sequences: Sequence[RunningSequence]) -> list[int | None]:
        """The writer's best token for each text; None where it is not sure enough, or would end."""
        logits = torch.stack([sequence.tracks[writer].last_logits for sequence in sequences]).float()
        probs, ids = logits.softmax(dim=-1).max(dim=-1)
        tokens = self._members[writer].vocabulary.tokens
        return [
            token_id if prob >= SURE and tokens[token_id] else None
            for prob, token_id in zip(probs.tolist(), ids.tolist(), strict=True)
        ]

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
