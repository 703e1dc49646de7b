"""One member's next-token distributions, projected onto the main model's tokens by how the text goes on.

Let F(s) be the probability that a member's text goes on with the bytes s. Where its own text ends inside what it would
have made one token, the member is asked at its last boundary, with the bytes b since then pending, and the
probability of s is F(b + s) / F(b). The projection gives each token t of the main model the probability that t is the
first token which the main model's own tokenizer makes of what follows:

    q(t) = sum over the member's token sequences that spell b and then r, first token of r being t.

A sequence is expanded while it has not spelled b yet, and while what it spells after b may still grow into a longer
token of the main model. That takes a forward pass, so it is done where real mass hangs on it, in batches and within
limits; beyond them, text counts as it stands, and mass that has not come through b is truncated.
"""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor

from deepen_llm.projection.expansion import Expansion
from deepen_llm.projection.foresight import Foresight, Outlook
from deepen_llm.projection.limits import ExpansionLimits
from deepen_llm.projection.results import Path, Queries
from deepen_llm.projection.tables import ProjectionTables
from deepen_llm.vocabulary import Vocabulary


@final
class Projector:
    """Projects one member's distributions onto the main model's tokens. One thread at a time."""

    def __init__(
        self, member: Vocabulary, main: Vocabulary, limits: ExpansionLimits, *, align_eos: bool = True
    ) -> None:
        """Make the tables; with `align_eos` the member's end-of-sequence counts as the main model's."""
        self.limits = limits
        self._tables = ProjectionTables(member, main, is_exact=limits.is_exact, align_eos=align_eos)

    @property
    def has_residual(self) -> bool:
        """Whether some token that may come is beyond the main model."""
        return self._tables.has_residual

    def to_probs(self, logits: Tensor) -> Tensor:
        """The probs of logits `(batch, num_logits)` over the tokens that have text or end it; float32 at least."""
        self._tables.move(logits.device)
        return torch.softmax(logits + self._tables.mask, dim=-1)

    def project_closed(self, probs: Tensor, expected: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Project distributions at a boundary, no token expanded.

        Args:
            probs: `(batch, num_logits)`.
            expected: The main model's own probs `(batch, num_main_logits)`: see `ProjectionTables.count`.

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
        """Whether a token of one distribution `(num_logits,)` is to be expanded at a boundary: see `expand`."""
        ids = self._is_real(probs).nonzero().flatten().tolist()
        texts = (self._tables.member.tokens[token_id] or b"" for token_id in ids)
        return any(self._tables.first.longer_mass(text, expected) > self.limits.min_mass for text in texts)

    def _is_real(self, probs: Tensor) -> Tensor:
        return (probs > self.limits.min_mass) & self._tables.all_tokens.is_open

    def expand(
        self,
        pending: bytes,
        known: dict[Path, Tensor],
        max_length: int | float = math.inf,
        *,
        own_path: Path = (),
        tail: Path = (),
        expected: Tensor | None = None,
        outlook: Outlook | None = None,
    ) -> Queries:
        """Project one distribution after pending bytes.

        Args:
            pending: The bytes since the member's last boundary.
            known: The member's probs `(num_logits,)` after paths that were expanded before; what is asked for is added.
            max_length: The most tokens of a path that the member's context has room for.
            own_path: The member's own tokens for the pending bytes, the only ones that are expanded within them unless
            the
                limits are exact.
            tail: The main model's last tokens, those that spell the pending bytes at least. Only texts count after
            which
                its tokenizer would have cut off just these; none: any text.
            expected: The main model's own probs `(num_main_logits,)`. A text is only worth expanding where the main
                model itself expects a longer token that begins with it; None: wherever there is such a token.
            outlook: What is known beyond the text, of use where something is expected.
        """
        queries = Expansion(self._tables, self.limits, pending, known, max_length, own_path, tail, expected).run()
        if expected is None:
            return queries
        foresight = Foresight(
            self._tables, self.limits, pending, expected, known=known, max_length=max_length, outlook=outlook
        )
        return foresight.run(queries)
