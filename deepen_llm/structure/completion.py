"""The shortest way, or nearly, in which an unfinished text can still become one of a grammar."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import llguidance

from deepen_llm.errors import GrammarError
from deepen_llm.structure.matcher import Matcher, load_tokenizer

MAX_TRIES = 5000
"""So many bytes are tried at most, some 20 microseconds each."""

MAX_CPU_S = 0.5
"""No search takes longer, in seconds of its thread: a try takes milliseconds where a grammar is very ambiguous."""

MAX_BYTES = 4096
"""No completion is longer."""

COST_OF_ERROR = 100
"""A try that ends in an error of the grammar library counts as so many: it went to the library's own limits."""

BYTES_PER_TRY = 16
"""So many bytes that are taken again count as a try."""

NUM_FEW = 64
"""So many allowed bytes are all tried."""

MAX_ROUNDS = 64
"""So often the same bytes may be allowed again before other ways are tried first."""

_CLOSING = b'}]",ntf1023456789-:["{ '
"""What mostly leads to the end of JSON, the best first; anything else comes after it."""
_LENGTHENING = frozenset((0x5C, *range(0x80, 0x100)))
"""What only makes a string longer: an escape, or the beginning of a character of several bytes."""
_RANKS = {byte: rank for rank, byte in reversed(list(enumerate(_CLOSING)))}


@final
class ByteTokenizer:
    """Every byte as a token: what comes after is searched byte by byte, whatever the main model's tokens are."""

    def __init__(self) -> None:
        self.eos_token_id = 256
        self.bos_token_id = None
        self.tokens = [*(bytes((byte,)) for byte in range(256)), b"<end>"]
        self.special_token_ids = [self.eos_token_id]

    def __call__(self, text: bytes | str) -> list[int]:
        """The text's bytes."""
        return list(text if isinstance(text, bytes) else text.encode())

    @classmethod
    def load(cls) -> llguidance.LLTokenizer:
        """The tokenizer as llguidance takes it."""
        return load_tokenizer(cls())


def find_completion(
    matcher: Matcher,
    expressible: bytes,
    *,
    max_tries: int = MAX_TRIES,
    max_cpu_s: float = MAX_CPU_S,
    check: Callable[[], None] = lambda: None,
) -> bytes | None:
    """Bytes that complete what a matcher over `ByteTokenizer` has taken so far; none where it is complete.

    Depth first: what leads to a state that differs goes before what goes round in circles, and what closes JSON before
    anything else. It is the shortest for JSON but for rare cases, and always valid. States are told apart by the bytes
    that may come: of an ambiguous grammar such as `.*<end>`, where anything may always come, no way is found.

    One matcher goes to and fro, and what is still to be tried is two numbers: the memory that a search takes grows with
    the length of one way, and not with the number of tries.

    Args:
        matcher: It stays as it is.
        expressible: The bytes that may be used.
        max_tries: So many bytes are tried at most, which is the same on every machine.
        max_cpu_s: Seconds of this thread's own time, where tries are slow.
        check: Called between tries; what it raises ends the search.

    Returns:
        None where nothing was found, within its limits or at all.
    """
    try:
        return _Search(matcher, expressible, _Budget(max_tries, max_cpu_s, check)).find()
    except GrammarError:
        return None


@final
class _Budget:
    """What a search may still take."""

    def __init__(self, num_tries: int, max_cpu_s: float, check: Callable[[], None]) -> None:
        self._num_left, self._end_s, self._check = num_tries, time.thread_time() + max_cpu_s, check

    def spend(self, num_tries: int) -> None:
        """Count tries, and see whether the search may go on."""
        self._check()
        self._num_left -= num_tries

    @property
    def is_spent(self) -> bool:
        """Whether the search has to end."""
        return self._num_left <= 0 or time.thread_time() > self._end_s


@final
@dataclass(frozen=True, slots=True)
class _Place:
    """Where a byte leads, and what can only come behind it."""

    mask: bytes
    """The bytes that may come there, a bit each."""
    leads_on: bool
    """Whether it does not go round in circles."""
    rank: tuple[int, int, int, int]
    """The lower, the more promising."""


@final
class _Search:
    """A matcher that goes to and fro, the way to where it stands, and how often the same bytes might come on it."""

    def __init__(self, origin: Matcher, expressible: bytes, budget: _Budget) -> None:
        self._origin, self._matcher = origin, origin.copy()
        self._expressible = expressible
        self._budget = budget
        self._text = bytearray()
        self._is_complete, self._mask = False, b""
        self._way: list[tuple[int, bytes]] = []
        """For each byte that was chosen, the length of the text and the mask before it."""
        self._visits: Counter[bytes] = Counter()
        self._barren: set[bytes] = set()
        """Masks where no byte leads on but those that mostly close: there a few stand for all."""

    def find(self) -> bytes | None:
        """The text that completes; None where none was found."""
        self._look()
        stack: list[tuple[int, int]] = []
        while not self._is_complete:
            if len(self._text) < MAX_BYTES:
                stack += [(len(self._way), byte) for byte in self._branch()]
            if not stack or self._budget.is_spent:
                return None
            depth, byte = stack.pop()
            self._go_back(depth)
            self._go_on(byte)
        return bytes(self._text) if len(self._text) <= MAX_BYTES else None

    def _branch(self) -> list[int]:
        """The bytes by which to go on from here, the most promising last.

        Where many are allowed, as in a string, the others are tried only if none of those that mostly close leads on.
        Of others that lead to the same, one counts.
        """
        mask = self._mask
        allowed = [byte for byte in self._expressible if mask[byte >> 3] >> (byte & 7) & 1]
        ranked = self._try([byte for byte in allowed if byte in _RANKS])
        others = sorted((byte for byte in allowed if byte not in _RANKS), key=_legible_first)
        if len(allowed) > NUM_FEW and any(place.leads_on for place, _ in ranked):
            others = []
        elif mask in self._barren:
            others = others[:1]
        found = {place.mask: (place, byte) for place, byte in self._try(others[::-1])}
        if not any(place.leads_on for place, _ in found.values()):
            self._barren.add(mask)
        ranked += reversed(found.values())
        return [byte for _, byte in sorted(ranked, key=lambda pair: pair[0].rank)][::-1]

    def _try(self, allowed: list[int]) -> list[tuple[_Place, int]]:
        """Where each byte leads; those are left out behind which the grammar library gives up."""
        places, depth = [], len(self._way)
        for byte in allowed:
            if self._budget.is_spent:
                break
            self._budget.spend(1)
            try:
                self._go_on(byte)
                places.append((self._judge(byte), byte))
            except GrammarError:
                self._budget.spend(COST_OF_ERROR)
            self._go_back(depth)
        return places

    def _judge(self, byte: int) -> _Place:
        """The place to which the matcher went by one byte."""
        if self._is_complete:
            return _Place(self._mask, leads_on=True, rank=(0, 0, 0, 0))
        length, before = self._way[-1]
        num_visits = self._visits[self._mask]
        stays = int(self._mask == before and len(self._text) == length + 1) + 2 * (byte in _LENGTHENING)
        rank = _RANKS.get(byte, len(_CLOSING))
        # Some rounds in a circle may be needed, for the items of a list; then what is new goes first.
        num_more = max(num_visits - MAX_ROUNDS, 0)
        leads_on = not stays and num_visits <= MAX_ROUNDS
        return _Place(self._mask, leads_on, (1 + stays, num_more, -rank if stays else rank, num_visits))

    def _go_on(self, byte: int) -> None:
        """Take a byte that may come, and what can only come behind it."""
        self._way.append((len(self._text), self._mask))
        self._visits[self._mask] += 1
        self._text.append(byte)
        self._matcher.take(byte)
        self._look()

    def _look(self) -> None:
        """Take what can only come, and see whether the text is complete and what may come next."""
        self._is_complete = self._matcher.is_accepting()
        if not self._is_complete and (forced := self._matcher.forced_bytes()):
            self._text += forced
            self._matcher.take_all(forced)
            self._is_complete = self._matcher.is_accepting()
        self._mask = self._matcher.bitmask()

    def _go_back(self, depth: int) -> None:
        """Go back to where so many bytes had been chosen."""
        if depth == len(self._way):
            return
        (length, self._mask), num_taken = self._way[depth], len(self._text)
        for _, mask in self._way[depth:]:
            self._visits[mask] -= 1
        del self._way[depth:], self._text[length:]
        self._is_complete = False
        try:
            self._matcher.drop(num_taken - length)
        except GrammarError:  # an error ended it, or the grammar has terminals that cannot be taken back
            self._budget.spend(length // BYTES_PER_TRY)
            self._matcher = self._origin.copy()
            self._matcher.take_all(self._text)


def _legible_first(byte: int) -> tuple[bool, int]:
    """Small letters before anything else."""
    return not chr(byte).islower(), byte
