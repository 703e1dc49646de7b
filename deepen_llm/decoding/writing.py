"""A member's turn to write: it goes on with the text in its own tokens, one pass a token.

The text may end inside what the member would have made one token with what follows: with n of its last tokens u_1 ...
u_n since its boundary, and p_k what it gives after k of them, it goes on with a token s that begins with the bytes of
u_(k+1) ... u_n and goes on beyond, or with any token s behind all of them, with a probability in proportion to

    p_0(u_1) ... p_(k-1)(u_k) p_k(s)        k = 0 ... n

Only where there is such a longer token at all is the member asked before the end.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from deepen_llm.decoding.drawing import Drawing
from deepen_llm.decoding.sampling import sample
from deepen_llm.decoding.track import Track
from deepen_llm.projection.first_tokens import NONE
from deepen_llm.projection.results import Path
from deepen_llm.vocabulary.words import Place


@final
class Writing:
    """One member's turn in one sequence. Meanwhile its track is not told of the text that comes of it."""

    def __init__(self, track: Track, member: int, drawing: Drawing, place: Place | None, tail: Path) -> None:
        """Begin behind the text as it is.

        Args:
            track: Whose row goes on.
            member: Its position.
            drawing: Tells its tokens apart.
            place: Where the text stands, if a word is to begin; None: whatever comes.
            tail: The main model's last tokens; none where it did not choose them.
        """
        self._track, self._member, self._drawing = track, member, drawing
        self._place, self._tail = place, tail
        self._ids = tuple(track.alignment.ids)
        count, inside = track.alignment.open_tail(track.member.vocabulary.prefixes)
        self._own = self._ids[len(self._ids) - count :]
        self._insides = [inside[len(track.member.vocabulary.join(self._own[:k])) :] for k in range(count + 1)]
        while self._own and not len(drawing.beyond(member, self._insides[0], place)):
            self._own, self._insides = self._own[1:], self._insides[1:]
        self._num_kept = len(self._ids) - len(self._own)
        self._path: list[int] = []
        self._rows: list[Tensor] = []
        self.written = b""
        """What the member wrote that is not in the text yet."""
        track.begin_writing()
        if self._own:
            track.rewind(self._num_kept - 1)
            track.pending = list(self._ids[track.num_fed : self._num_kept])

    def read(self, probs: Tensor) -> bool:
        """Note what the member gives after all that it was fed, `(num_logits,)`; whether it can write now.

        Otherwise it is to be fed its own tokens for the text first, one by one.
        """
        self._rows.append(probs)
        if len(self._rows) <= len(self._own):
            self._track.pending = [self._own[len(self._rows) - 1]]
            return False
        return True

    def draw(self, generator: torch.Generator) -> int:
        """Draw a token of the member's and have it fed next; `NONE` where nothing may come."""
        ids, masses, ends = self._options()
        while float(masses.sum()) > 0:
            place = sample(masses.log(), generator)
            position = sum(place >= end for end in ends)
            token_id = int(ids[place])
            text = self._text(token_id)[len(self._insides[position]) :]
            if position == len(self._own) or not text or self._drawing.may_follow(self._tail, text):
                self._write(token_id, position, text)
                return token_id
            masses = masses.index_fill(0, torch.tensor([place], device=masses.device), 0.0)
        return NONE

    def end(self) -> None:
        """Have the track read again: its row keeps what the member wrote as far as its tokenizer cuts the text so."""
        row = [*self._ids[: self._num_kept], *self._path] if self._path else self._ids
        self._track.end_writing(row[: self._track.num_fed])

    def _options(self) -> tuple[Tensor, Tensor, list[int]]:
        """Tokens with their masses, both `(num,)`, and where the options of each position but the last one end."""
        ids, masses, ends, scale = [], [], [0], 1.0
        for position, (inside, probs) in enumerate(zip(self._insides, self._rows, strict=True)):
            is_last = position == len(self._own)
            if is_last and not inside:
                those = torch.arange(len(probs))
                found = (
                    probs if self._place is None else self._drawing.keep_beginnings(self._member, probs, self._place)
                )
            else:
                those = self._drawing.beyond(self._member, inside, self._place, with_equal=is_last)
                found = probs[those.to(probs.device)]
            ids.append(those)
            masses.append(found * scale)
            ends.append(ends[-1] + len(those))
            if not is_last:
                scale *= float(probs[self._own[position]])
        return torch.cat(ids), torch.cat(masses), ends[1:-1]

    def _write(self, token_id: int, position: int, text: bytes) -> None:
        """Go on with a token after the first own ones of those for the end of the text."""
        self._num_kept += position
        self._track.rewind(self._num_kept + len(self._path))
        self._path.append(token_id)
        self._track.pending = [token_id]
        self.written += text
        self._own, self._insides, self._rows = (), [b""], []
        if text:
            self._place = None

    def _text(self, token_id: int) -> bytes:
        return self._track.member.vocabulary.tokens[token_id] or b""
