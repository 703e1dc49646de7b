"""The shortest way, or nearly, in which an unfinished text can still become one of a grammar."""

from __future__ import annotations

from collections import Counter
from typing import final

import llguidance

MAX_EXPANSIONS = 20_000
"""So many bytes are tried at most, about 3 microseconds each."""

MAX_BYTES = 8192
"""No completion is longer."""

MAX_ROUNDS = 16
"""So often the same bytes may be allowed again before other ways are tried first."""

_CLOSING = b'}]",ntf1023456789-:["{ '
"""What mostly leads to the end of JSON, the best first; anything else comes behind it."""
_NUM_OTHERS = 6
"""So many other bytes are tried where many are allowed: what is free to choose leads to the same."""

_RANKS = {byte: rank for rank, byte in reversed(list(enumerate(_CLOSING)))}


@final
class ByteTokenizer:
    """Every byte as a token: what comes behind is searched byte by byte, whatever the main model's tokens are."""

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
    anything else. It is the shortest for JSON but for rare cases, and always valid.

    Args:
        matcher: It stays as it is.
        expressible: The bytes that may be used.

    Returns:
        None where nothing was found, within `MAX_EXPANSIONS` or at all.
    """
    stack = [_Path(matcher.deep_copy(), b"", Counter())]
    num_left = MAX_EXPANSIONS
    while stack and num_left > 0:
        path = stack.pop()
        if path.is_complete:
            return path.text
        branches = path.branch(expressible) if len(path.text) < MAX_BYTES else []
        num_left -= max(len(branches), 1)
        stack += reversed(branches)
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

    def branch(self, expressible: bytes) -> list[_Path]:
        """The ways on by one byte, the most promising first."""
        visits = self._visits + Counter((self.mask,))
        allowed = [byte for byte in expressible if self.mask[byte >> 3] >> (byte & 7) & 1]
        ranked = []
        for byte in _choose(allowed):
            matcher = self._matcher.deep_copy()
            if not matcher.consume_token(byte):
                continue
            path = _Path(matcher, self.text + bytes((byte,)), visits)
            is_same = path.mask == self.mask and len(path.text) == len(self.text) + 1
            rank = _RANKS.get(byte, len(_CLOSING))
            # Some rounds in a circle may be needed, for the items of a list; then what is new goes first.
            key = (is_same, max(visits[path.mask] - MAX_ROUNDS, 0), -rank if is_same else rank, byte)
            ranked.append((key, path))
        return [path for _, path in sorted(ranked, key=lambda pair: pair[0])]


def _choose(allowed: list[int]) -> list[int]:
    """The bytes to try."""
    others = sorted((byte for byte in allowed if byte not in _RANKS), key=lambda byte: (not chr(byte).islower(), byte))
    return [byte for byte in allowed if byte in _RANKS] + others[:_NUM_OTHERS]
