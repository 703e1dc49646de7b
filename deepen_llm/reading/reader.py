"""One member's next-token distributions, read as distributions over how the text goes on.

Let F(s) be the probability that a member's text goes on with the bytes s. Where its own text ends inside what it would
have made one token, the member is asked at its last boundary, with the bytes b since then still open, and the
probability of s is F(b + s) / F(b). A reading gives each token t of the main model the probability that t is the first
token which the main model's own tokenizer makes of what follows:

    read(t) = sum over the member's token sequences that spell b and then r, first token of r being t.

A sequence is followed while it has not spelled b yet, and while what it spells behind b may still grow into a longer
token of the main model. Following it takes a forward pass, so it is done where real mass hangs on it, in batches
and within bounds; beyond them, text counts as it stands and mass that has not come through b is neglected.
"""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor

from deepen_llm.reading.bounds import ReadingBounds
from deepen_llm.reading.following import Following
from deepen_llm.reading.row import Asking, Path
from deepen_llm.reading.tables import ReadingTables
from deepen_llm.vocabulary import Vocabulary
from deepen_llm.vocabulary.prefixes import TokenPrefixes


@final
class TextReader:
    """Reads one member's distributions in the main model's tokens. One thread at a time."""

    def __init__(self, member: Vocabulary, main: Vocabulary, bounds: ReadingBounds) -> None:
        self.bounds = bounds
        self._tables = ReadingTables(member, main, is_exact=bounds.is_exact)

    @property
    def prefixes(self) -> TokenPrefixes:
        """The member's tokens in the order of their bytes."""
        return self._tables.prefixes

    @property
    def has_rest(self) -> bool:
        """Whether some token that may come is beyond the main model."""
        return self._tables.has_rest

    def to_probs(self, logits: Tensor) -> Tensor:
        """The probs of logits `(batch, num_logits)` over the tokens that have text or end it; float32 at least."""
        self._tables.move(logits.device)
        return torch.softmax(logits + self._tables.mask, dim=-1)

    def read_closed(self, probs: Tensor, expected: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Read distributions at a boundary, no token extended.

        Args:
            probs: `(batch, num_logits)`.
            expected: The main model's own probs `(batch, num_main_logits)`: see `ReadingTables.count`.

        Returns:
            Probs over the main model's tokens `(batch, num_main_logits)`, and over the member's own that these cannot
            express `(batch, num_logits)`, None where there is no such token.
        """
        return self._tables.count(probs, expected)

    def find_open(self, probs: Tensor) -> list[bool]:
        """Which of the distributions `(batch, num_logits)` have a token with real mass that may still grow."""
        found: list[bool] = self._is_real(probs).any(dim=-1).tolist()
        return found

    def is_expected_to_grow(self, probs: Tensor, expected: Tensor) -> bool:
        """Whether a token of one distribution `(num_logits,)` is to be extended at a boundary: see `follow`."""
        ids = self._is_real(probs).nonzero().flatten().tolist()
        texts = (self._tables.member.tokens[token_id] or b"" for token_id in ids)
        return any(self._tables.first.longer_mass(text, expected) > self.bounds.min_mass for text in texts)

    def _is_real(self, probs: Tensor) -> Tensor:
        return (probs > self.bounds.min_mass) & self._tables.whole.opens

    def follow(
        self,
        opened: bytes,
        known: dict[Path, Tensor],
        max_length: int | float = math.inf,
        *,
        own_path: Path = (),
        tail: Path = (),
        expected: Tensor | None = None,
    ) -> Asking:
        """Read one distribution behind open bytes.

        Args:
            opened: The bytes since the member's last boundary.
            known: The member's probs `(num_logits,)` after paths that were followed before; what is asked for is added.
            max_length: The most tokens of a path that the member's context has room for.
            own_path: The member's own tokens for the open bytes, the only ones that are followed within them unless the
                bounds are exact.
            tail: The main model's last tokens, those that spell the open bytes at least. Only texts count behind which
                its tokenizer would have cut off just these; none: any text.
            expected: The main model's own probs `(num_main_logits,)`. A text is only worth extending where the main
                model itself expects a longer token that begins with it; None: wherever there is such a token.
        """
        return Following(self._tables, self.bounds, opened, known, max_length, own_path, tail, expected).run()
