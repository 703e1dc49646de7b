"""One answer under its grammar: what may come next, what must, and how to close it before the tokens run out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import final

from torch import Tensor

from deepen_llm.errors import GrammarError
from deepen_llm.structure.compiler import Structure, StructureCompiler
from deepen_llm.structure.completion import find_completion
from deepen_llm.structure.matcher import Matcher

WATCHED_TOKENS = 64
"""From so many tokens before the limit on, beside twice the shortest answer, every token is checked to leave a way to
end in time. Before that no token is likely to need more than is left, and the search for a way is saved."""

WATCHED_BYTES = 4 * WATCHED_TOKENS
"""The same for the bytes for which the other members have room."""

PAUSE_TOKENS = 16
"""After a search for a way to end that found none, at least so many tokens pass before the next."""

OPENING = b"[{,:"
"""Behind these a value of JSON is still to come: whoever would leave the structure there has said nothing yet."""

MAX_TRIES = 500
"""So many bytes are tried at most in a search while the answer runs, which is in the engine's thread: some 10 ms."""

MAX_CPU_S = 0.03
"""The same in seconds, where tries are slow."""

MAX_CARRIED_BYTES = 8192
"""So many bytes are tried at most to keep what is left of a completion after a token that it did not foresee."""

LONGEST_PIECE = 32
"""Bytes of the longest tokens that a completion is cut into."""


@final
@dataclass(frozen=True, slots=True)
class Completion:
    """A way to end an answer: its bytes, and the main model's tokens for them."""

    text: bytes
    token_ids: tuple[int, ...]

    def fits(self, room: Room) -> bool:
        """Whether there is room for it in every member."""
        return len(self.token_ids) <= room.num_tokens and len(self.text) <= room.num_bytes


@final
@dataclass(frozen=True, slots=True)
class Room:
    """What may still come: tokens of the main model, and bytes, each of which may be a token of another vocabulary."""

    num_tokens: int
    num_bytes: int

    def exceeds(self, other: Room) -> bool:
        """Whether there is more room than in the other, by both counts."""
        return self.num_tokens > other.num_tokens and self.num_bytes > other.num_bytes

    def after(self, piece: bytes) -> Room:
        """What is left after one more token."""
        return Room(self.num_tokens - 1, self.num_bytes - len(piece))


@final
class Constraint:
    """Follows one answer token by token. For one thread at a time.

    Before a token is taken, `steer` makes sure that the answer can still be completed within the limit; where the token
    would leave no room for that, the completion comes in its place and ends the answer.
    """

    def __init__(self, compiler: StructureCompiler, structure: Structure) -> None:
        self._compiler, self._vocabulary, self._structure = compiler, compiler.vocabulary, structure
        self._tokens, self._text = structure.tokens.copy(), structure.text.copy()
        self._completion = self._cut(structure.completion)
        """How the answer can end from here; None where it was not looked for, or not found."""
        self._next_completion: Completion | None = None
        shortest = self._completion or Completion(b"", ())
        self._watched = Room(WATCHED_TOKENS + 2 * len(shortest.token_ids), WATCHED_BYTES + 2 * len(shortest.text))
        """The room at which the end is looked for."""
        self._num_taken = self._next_search = 0
        """Tokens taken; at how many a way to end is searched for again."""
        self._forced: deque[int] = deque()
        self._is_forced = self._is_inside = False
        """Whether the next token is a forced one; whether the last one was not, and was more than an opening."""
        self.is_shortened = False
        """Whether the answer was closed because its tokens ran out."""

    @property
    def is_complete(self) -> bool:
        """Whether the answer is whole, and nothing can come after it or is to come."""
        return not self._forced and (self.is_shortened or self._tokens.is_stopped())

    def allowed(self) -> Tensor:
        """A mask (num_logits,) on the CPU of the tokens that may come: end-of-sequence where the answer may end.

        Raises:
            GrammarError: The grammar is too complex to be followed on.
        """
        with self._forgetting():
            return self._compiler.allowed(self._tokens)

    def may_end(self) -> bool:
        """Whether the answer is whole as it stands."""
        return self._tokens.is_accepting()

    def way_out(self) -> int | None:
        """The token by which to leave, for a model that would go on with what the structure does not allow.

        It is end-of-sequence where the answer may end. Else, inside a value, it is what closes it, such as a quote: the
        first of the shortest completion. None where nothing was said yet, or where more has to be said first.
        """
        if self.may_end():
            return next(iter(self._vocabulary.eos_ids), None)
        if not self._is_inside:
            return None
        self._completion = self._completion or self._search()
        if self._completion is None or chr(self._completion.text[0]).isalnum():
            return None
        return self._completion.token_ids[0]

    def next_forced(self) -> int | None:
        """The next token, where the structure or a completion that has begun leaves no choice."""
        if not self._forced and not self.is_shortened:
            self._forced.extend(self._find_forced())
        self._is_forced = bool(self._forced)
        return self._forced.popleft() if self._forced else None

    def steer(self, token_id: int, room: Room) -> int:
        """The token to take: this one, which may come, or the first of the completion where that has to begin now."""
        if self.is_shortened or token_id in self._vocabulary.eos_ids or room.exceeds(self._watched):
            return token_id
        now = self._completion = self._completion or self._search()
        if now is None or not now.fits(room):
            self._watched = Room(room.num_tokens // 2, room.num_bytes // 2)  # what does not fit now may fit later
            return token_id
        piece = self._piece(token_id)
        self._next_completion = self._complete_after(piece, now)
        if self._next_completion is not None and self._next_completion.fits(room.after(piece)):
            return token_id
        return self._begin(now, token_id)

    def push(self, token_id: int) -> None:
        """Take a token that may come.

        Raises:
            GrammarError: It may not, or the grammar is too complex to be followed on.
        """
        if token_id in self._vocabulary.eos_ids:
            return
        piece = self._piece(token_id)
        self._num_taken += 1
        with self._forgetting():
            carried = self._carry_over(piece, self._completion)
            self._completion, self._next_completion = self._next_completion or carried, None
            self._is_inside = not self._is_forced and piece[-1:] not in OPENING
            self._tokens.take(token_id)
            self._text.take_all(piece)

    @contextmanager
    def _forgetting(self) -> Iterator[None]:
        """What a matcher cannot follow may be too much for this answer alone, or for a lexer that all answers share."""
        try:
            yield
        except GrammarError:
            self._compiler.forget(self._structure)
            raise

    def _piece(self, token_id: int) -> bytes:
        return self._vocabulary.tokens[token_id] or b""

    def _find_forced(self) -> list[int]:
        """The tokens of the text that alone can come, as the tokenizer cuts it; none where it has none for it."""
        forced = self._text.forced_bytes()
        if not forced:
            return []
        token_ids = self._tokens.forced_tokens()
        return token_ids if forced.startswith(self._vocabulary.join(token_ids)) else []

    def _begin(self, completion: Completion, token_id: int) -> int:
        """The completion's first token, or end-of-sequence where the answer is whole; what was chosen if neither is."""
        if not completion.token_ids and not self._vocabulary.eos_ids:
            return token_id
        self.is_shortened = True
        self._forced = deque(completion.token_ids or self._vocabulary.eos_ids[:1])
        return self._forced.popleft()

    def _complete_after(self, piece: bytes, now: Completion) -> Completion | None:
        """How the answer can end after one more token."""
        if (carried := self._carry_over(piece, now)) is not None:
            return carried
        return self._find_completion(_ahead(self._text, piece))

    def _carry_over(self, piece: bytes, now: Completion | None) -> Completion | None:
        """The least of a completion that still completes after one more token; None where nothing of it does."""
        if now is None:
            return None
        if now.text.startswith(piece):
            return self._cut(now.text[len(piece) :], now)
        ahead = _ahead(self._text, piece)
        most = min(len(piece), len(now.text))
        dropped = range(most, -1, -1) if len(now.text) * most <= MAX_CARRIED_BYTES else (most, 0)
        rests = (now.text[num_dropped:] for num_dropped in dropped)
        return self._cut(next((rest for rest in rests if _ends(ahead, rest)), None), now)

    def _search(self) -> Completion | None:
        """A way to end from here; none is searched for again at once where none was found."""
        if self._num_taken < self._next_search:
            return None
        found = self._find_completion(self._text)
        if found is None:
            self._next_search = self._num_taken + max(PAUSE_TOKENS, self._num_taken)
        return found

    def _find_completion(self, text: Matcher | None) -> Completion | None:
        if text is None:
            return None
        found = find_completion(text, self._compiler.expressible, max_tries=MAX_TRIES, max_cpu_s=MAX_CPU_S)
        return self._cut(found)

    def _cut(self, text: bytes | None, longer: Completion | None = None) -> Completion | None:
        """A completion as few tokens of the main model, the longest first; None where it has none for a byte.

        `longer` is one that ends in this text: where a token begins as in that one, all that follows is the same too.
        """
        if text is None:
            return None
        begins = {} if longer is None else self._begins(longer)
        token_ids: list[int] = []
        begin = 0
        while begin < len(text) and len(text) - begin not in begins:
            ends = range(min(begin + LONGEST_PIECE, len(text)), begin, -1)
            end = next((end for end in ends if text[begin:end] in self._vocabulary.ids_by_token), None)
            if end is None:
                return None
            token_ids.append(self._vocabulary.ids_by_token[text[begin:end]])
            begin = end
        if longer is not None and begin < len(text):
            token_ids += longer.token_ids[begins[len(text) - begin] :]
        return Completion(text, tuple(token_ids))

    def _begins(self, completion: Completion) -> dict[int, int]:
        """The number of each token of a completion, by how many bytes are left where it begins."""
        begins, num_left = dict[int, int](), len(completion.text)
        for place, token_id in enumerate(completion.token_ids):
            begins[num_left] = place
            num_left -= len(self._piece(token_id))
        return begins


def _ahead(matcher: Matcher | None, text: bytes) -> Matcher | None:
    """A matcher that has taken a text too; None where it cannot. The one given stays as it is."""
    if matcher is None:
        return None
    ahead = matcher.copy()
    try:
        return ahead if ahead.take_all(text) == len(text) else None
    except GrammarError:
        return None


def _ends(matcher: Matcher | None, text: bytes) -> bool:
    """Whether a text completes what a matcher over bytes has taken; the matcher stays as it is."""
    ahead = _ahead(matcher, text)
    return ahead is not None and ahead.is_accepting()
