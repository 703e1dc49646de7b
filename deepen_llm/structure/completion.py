"""The shortest way, or nearly, in which an unfinished text can still become one of a grammar."""

from __future__ import annotations

from collections import Counter
from typing import final

import llguidance

MAX_TRIES = 10_000
"""So many bytes are tried at most, about 5 microseconds each."""

MAX_BYTES = 8192
"""No completion is longer."""

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
        return llguidance.LLTokenizer(llguidance.TokenizerWrapper(cls()))


def find_completion(matcher: llguidance.LLMatcher, expressible: bytes) -> bytes | None:
    """Bytes that complete what a matcher over `ByteTokenizer` has taken so far; none where it is complete.

    Depth first: what leads to a state that differs goes before what goes round in circles, and what closes JSON before
    anything else. It is the shortest for JSON but for rare cases, and always valid. States are told apart by the bytes
    that may come: of an ambiguous grammar such as `.*<end>`, where anything may always come, no way is found.

    Args:
        matcher: It stays as it is.
        expressible: The bytes that may be used.

    Returns:
        None where nothing was found, within `MAX_TRIES` or at all.
    """
    stack, barren = [_Path(matcher.deep_copy(), b"", Counter())], set[bytes]()
    num_left = MAX_TRIES
    while stack and num_left > 0:
        path = stack.pop()
        if path.is_complete:
            return path.text
        if len(path.text) < MAX_BYTES:
            branches, num_tried = path.branch(expressible, barren)
            stack += reversed(branches)
            num_left -= num_tried
    return None


@final
class _Path:
    """A way on, and how often each set of allowed bytes was met on it."""

    def __init__(self, matcher: llguidance.LLMatcher, text: bytes, visits: Counter[bytes]) -> None:
        """Takes the matcher, and with it what can only come next."""
        self._matcher = matcher
        self._visits = visits
        self.is_complete = matcher.is_accepting()
        forced = b"" if self.is_complete else matcher.compute_ff_bytes()
        if forced:
            matcher.try_consume_tokens(list(forced))
            self.is_complete = matcher.is_accepting()
        self.text = text + forced
        self.mask = matcher.compute_bitmask()
        self.leads_on = self.is_complete
        """Whether it does not go round in circles."""

    @property
    def num_visits(self) -> int:
        """How often the same bytes were allowed before on this way."""
        return self._visits[self.mask]

    def branch(self, expressible: bytes, barren: set[bytes]) -> tuple[list[_Path], int]:
        """The ways on by one byte, the most promising first, and how many bytes were tried.

        Where many are allowed, as in a string, the others are tried only if none of those that mostly close leads on.
        Of others that lead to the same, one counts. `barren` collects the sets of allowed bytes where no other leads on
        either: there a few stand for all.
        """
        allowed = [byte for byte in expressible if self.mask[byte >> 3] >> (byte & 7) & 1]
        likely = [byte for byte in allowed if byte in _RANKS]
        others = sorted((byte for byte in allowed if byte not in _RANKS), key=_legible_first)
        ranked = [self._follow(byte) for byte in likely]
        if len(allowed) > NUM_FEW and any(path.leads_on for _, path in ranked):
            others = []
        elif self.mask in barren:
            others = others[:1]
        found = {path.mask: (rank, path) for rank, path in map(self._follow, reversed(others))}
        if not any(path.leads_on for _, path in found.values()):
            barren.add(self.mask)
        ranked += reversed(found.values())
        return [path for _, path in sorted(ranked, key=lambda pair: pair[0])], max(len(likely) + len(others), 1)

    def _follow(self, byte: int) -> tuple[tuple[int, int, int, int], _Path]:
        """The way on by one byte that may come, and its rank."""
        matcher = self._matcher.deep_copy()
        matcher.consume_token(byte)
        path = _Path(matcher, self.text + bytes((byte,)), self._visits + Counter((self.mask,)))
        if path.is_complete:
            return (0, 0, 0, 0), path
        stays = int(path.mask == self.mask and len(path.text) == len(self.text) + 1)
        stays += 2 * (byte in _LENGTHENING)
        path.leads_on = not stays and path.num_visits <= MAX_ROUNDS
        rank = _RANKS.get(byte, len(_CLOSING))
        # Some rounds in a circle may be needed, for the items of a list; then what is new goes first.
        num_more = max(path.num_visits - MAX_ROUNDS, 0)
        return (1 + stays, num_more, -rank if stays else rank, path.num_visits), path


def _legible_first(byte: int) -> tuple[bool, int]:
    """Small letters before anything else."""
    return not chr(byte).islower(), byte
