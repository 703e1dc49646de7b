"""One member a word, drawn by the weights, in place of all of them a token.

The ensemble is a mixture over words (`decoding/open_word.py`): the word that begins with b comes with the probability
sum_i w_i F_i(b). So it comes about by drawing a member i with probability w_i and letting it write alone ("ME", arXiv
2605.00419, has that for tokens of one vocabulary). Token by token, t being the next one of the main model:

1. The member i that writes draws t. Where t goes on with the word, it comes.
2. Where t begins a new word, the word is at its end, which is the writer's to say. A member j is drawn anew with
   probability w_j. Is it i, t comes. Is it another, t is forgotten, and j draws one that begins a word; a member that
   begins none with any probability is left out of the draw.

That is v(t) of `open_word.py`: that i writes given the word b so far has the probability w_i F_i(b) / sum_j w_j F_j(b),
by Bayes' rule; so t comes with sum_i w_i F_i(b) q_i(t) over that sum where it goes on, and where it begins a word with
the probability of an end, the same sum over e_i, times sum_j w_j q_j(t) / e_j.

A member with other tokens than the main model's writes in its own (`decoding/writing.py`) until it is sure which token
of the main model its text begins with. Nothing is projected, expanded or shared as the main model would, so that the
main model need not be asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import final

import torch

from deepen_llm.decoding.drawing import Drawing
from deepen_llm.decoding.open_word import OpenWord
from deepen_llm.decoding.sampling import sample
from deepen_llm.decoding.track import Track
from deepen_llm.decoding.writing import Writing
from deepen_llm.projection.first_tokens import NONE
from deepen_llm.projection.results import Path
from deepen_llm.vocabulary.words import Place


@final
class DrawnText:
    """Who writes in one sequence, and what was drawn and is not in the text yet."""

    def __init__(
        self,
        tracks: Sequence[Track],
        drawing: Drawing,
        generator: torch.Generator,
        last_tokens: Callable[[int], Path],
    ) -> None:
        """Begin; nobody has been drawn.

        Args:
            tracks: One per member.
            drawing: What is known of their tokens.
            generator: Draws, on the CPU.
            last_tokens: The main model's last tokens that spell so many bytes: see `RunningSequence`.
        """
        self._tracks, self._drawing, self._generator, self._last_tokens = tracks, drawing, generator, last_tokens
        self._writer: int | None = None
        self._writing: Writing | None = None
        """The writer's turn, if its tokens are not the main model's."""
        self._drawn: int | None = None
        """A token of the main model that comes behind what was written."""
        self._is_new = False
        """Whether the writer was drawn for a word of which nothing is in the text yet."""
        self._begins_word = False
        """Whether only what begins a word may come next."""
        self._left_out: set[int] = set()
        for track in tracks:
            track.measures_text = False

    @property
    def resting(self) -> frozenset[int]:
        """The members that are not asked at this step; before anybody is drawn, all read the prompt."""
        return frozenset() if self._writer is None else frozenset(range(len(self._tracks))) - {self._writer}

    def begin(self, word: OpenWord) -> None:
        """Draw who writes first. Of a word in whose middle the text ends everybody may have written the beginning."""
        self._is_new, self._begins_word = word.place == Place.BETWEEN, False
        self._hand_over(self._draw_writer(word), word)

    def advance(self, word: OpenWord) -> None:
        """Draw what can be drawn after a pass, until a token is there or the writer has to be asked again.

        Raises:
            MemberError: A member failed as tokens were taken back.
        """
        if self._writer is None:
            self.begin(word)
        while self._drawn is None and not self._track.pending:
            self._draw_token(word)

    def next_token(self, word: OpenWord) -> int | None:
        """The next token of the main model, to be taken into the text at once; None until a member has been asked.

        Raises:
            MemberError: A member failed as tokens were taken back.
        """
        token_id = None if self._writer is None else self._settle(word)
        if token_id is None:
            return None
        if not self._is_new and self._drawing.begins(token_id, word.place) and not self._draw_anew(word):
            return None
        self._is_new = self._begins_word = False
        self._left_out.clear()
        if self._writing is not None and self._writing.written:
            self._writing.written = self._writing.written[len(self._drawing.vocabulary.tokens[token_id] or b"") :]
        else:
            self._drawn = None
        return token_id

    @property
    def _track(self) -> Track:
        if self._writer is None:
            raise RuntimeError("nobody has been drawn")
        return self._tracks[self._writer]

    def _settle(self, word: OpenWord) -> int | None:
        """The main model's token that certainly comes, as far as the writer goes."""
        written = b"" if self._writing is None else self._writing.written
        if not written:
            if self._drawn is None and word.place == Place.BETWEEN and not self._is_new:
                self._draw_anew(word)
            found = self._drawn
        else:
            found = self._drawing.first_token(written, is_ended=self._drawn is not None)
        if found == NONE:  # the main model cannot express what was written: it writes in its place
            self._hand_over(self._drawing.main, word)
            return None
        return found

    def _draw_token(self, word: OpenWord) -> None:
        """Have the writer draw one token, or hand on where it can give none."""
        track, writer = self._track, self._drawing.main if self._writer is None else self._writer
        if track.logits is None:
            raise RuntimeError("a token is drawn only after its member ran")
        probs = self._drawing.read(writer, track.logits)
        if self._writing is not None:
            if not self._writing.read(probs):
                return
            token_id = self._writing.draw(self._generator)
            if token_id != NONE and (end := self._drawing.end_token(writer, token_id)) is not None:
                self._drawn, track.pending = end, []
        else:
            if self._begins_word:
                probs = self._drawing.keep_beginnings(writer, probs, word.place)
            token_id = sample(probs.log(), self._generator) if float(probs.sum()) > 0 else NONE
            self._drawn = None if token_id == NONE else token_id
        if token_id == NONE:
            self._left_out.add(writer)
            self._hand_over(self._draw_writer(word), word)

    def _draw_anew(self, word: OpenWord) -> bool:
        """Draw who writes the word that begins; whether it is who has written so far."""
        self._is_new = True
        writer = self._draw_writer(word)
        if writer == self._writer:
            return True
        self._begins_word = True
        self._hand_over(writer, word)
        return False

    def _draw_writer(self, word: OpenWord) -> int:
        """Draw a member by the weights; the main model where all others can give nothing, whatever it says."""
        weights = [0.0 if i in self._left_out else w for i, w in enumerate(word.weights.current)]
        if sum(weights) <= 0:
            self._begins_word = False
            return self._drawing.main
        return sample(torch.tensor(weights, dtype=torch.float64).log(), self._generator)

    def _hand_over(self, writer: int, word: OpenWord) -> None:
        """A member writes behind the text as it is; what is not in it yet is forgotten.

        It is the main model where the member's tokens cannot spell the text.
        """
        self._drawn = None
        if self._writing is not None:
            self._writing.end()
            self._writing = None
        track = self._tracks[writer]
        if track.takes_main_tokens:
            self._writer = writer
        elif track.alignment.ends_unknown:
            track.num_abstained += 1
            self._writer = self._drawing.main
        else:
            self._writer = writer
            place = word.place if self._begins_word else None
            tail = self._last_tokens(len(track.alignment.open_tail(track.member.vocabulary.prefixes)[1]))
            self._writing = Writing(track, writer, self._drawing, place, tail)
