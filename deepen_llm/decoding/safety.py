"""When to fuse: steps that are better left to the main model, because nothing can come of asking the others.

Fusing at every token costs the most and, where tokenizers disagree, harms long answers ("SAFE", arXiv 2510.15346).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from torch import Tensor

from deepen_llm.decoding.sequence import RunningSequence
from deepen_llm.vocabulary import Vocabulary
from deepen_llm.vocabulary.prefixes import TokenPrefixes


@final
class Safety:
    """Chooses the sequences in which the other members are to be asked."""

    def __init__(self, vocabularies: Sequence[Vocabulary], main: int, confidence: float) -> None:
        """`confidence` is the probability of its best token with which the main model counts as sure."""
        own = vocabularies[main].fingerprint
        self._prefixes = {
            index: TokenPrefixes(vocabulary.tokens)
            for index, vocabulary in enumerate(vocabularies)
            if index != main and vocabulary.fingerprint != own
        }
        self._confidence = confidence

    def choose(self, sequences: Sequence[RunningSequence], logits: Tensor) -> list[RunningSequence]:
        """Those where the main model is not sure and every member's text is at one of its boundaries.

        Args:
            sequences: All that run.
            logits: The main model's, `(len(sequences), num_logits)`.
        """
        is_sure = (logits.float().softmax(dim=-1).amax(dim=-1) >= self._confidence).tolist()
        return [s for s, sure in zip(sequences, is_sure, strict=True) if not sure and self._is_at_boundary(s)]

    def _is_at_boundary(self, sequence: RunningSequence) -> bool:
        tails = (sequence.tracks[index].alignment.open_tail(prefixes) for index, prefixes in self._prefixes.items())
        return not any(opened for _, opened in tails)
