"""Which token of the main model a text begins with, as the main model's own tokenizer cuts it."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from deepen_llm.vocabulary import Vocabulary
from deepen_llm.vocabulary.prefixes import TokenPrefixes

NONE = -1
"""In place of a token where the main model's vocabulary cannot express the text."""
MAX_REMEMBERED = 1 << 17


@final
class FirstTokens:
    """The main tokenizer's first token of any text that continues other text."""

    def __init__(self, main: Vocabulary, *, is_exact: bool = False) -> None:
        """With `is_exact`, a text's first token is open wherever it is not proven to stay; see `is_open`."""
        self._main = main
        self._prefixes = TokenPrefixes(main.tokens)
        self._is_exact = is_exact
        self._known: dict[bytes, int] = {}

    def of(self, text: bytes) -> int:
        """The id of the first token of a text that is not empty; `NONE` where the main model cannot express it.

        The bytes of a character that is not complete yet count as the longest token that they begin with.
        """
        found = self._known.get(text)
        if found is None:
            if len(self._known) >= MAX_REMEMBERED:
                self._known.clear()
            found = self._known[text] = self._find(text)
        return found

    def is_open(self, text: bytes) -> bool:
        """Whether what follows the text may change its first token.

        The tokens that begin with the text and go on tell that in practice. Merges can reach back further; where the
        answer is to be exact, only a safe cut behind the first token settles it.
        """
        if not self._is_exact:
            return self._prefixes.has_longer(text)
        complete = _complete(text)
        cut = len(complete[: self._main.last_safe_cut(complete)].encode())
        first = self.of(text)
        return first == NONE or cut < len(self._main.tokens[first] or b"")

    def read(self, member: Vocabulary) -> tuple[Tensor, Tensor]:
        """For every token of a member: the first token of its text, and whether that is open.

        Returns:
            Ids of the main model `(num_logits,)` int64, `NONE` for a token without text, end-of-sequence for
            end-of-sequence; and `(num_logits,)` bool.
        """
        ids = [NONE if not token else self.of(token) for token in member.tokens]
        opens = [bool(token) and self.is_open(token or b"") for token in member.tokens]
        if self._main.eos_ids:
            for eos_id in member.eos_ids:
                ids[eos_id] = self._main.eos_ids[0]
        return torch.tensor(ids), torch.tensor(opens)

    def _find(self, text: bytes) -> int:
        complete = _complete(text)
        if complete:
            ids = self._main.encode(complete, at_start=False)
            return ids[0] if ids and self._main.tokens[ids[0]] is not None else NONE
        known = self._main.ids_by_token
        lengths = range(len(text), 0, -1)
        return next((known[text[:length]] for length in lengths if text[:length] in known), NONE)


def _complete(text: bytes) -> str:
    """The text up to its first byte that is no part of a complete character."""
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        return text[: error.start].decode()
