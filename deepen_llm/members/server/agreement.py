"""Whether a server and a tokenizer belong together, found out before anything is asked."""

from __future__ import annotations

from deepen_llm.errors import MemberError, quote
from deepen_llm.members.server.dialect import Dialect
from deepen_llm.vocabulary import Vocabulary

SENTENCES = (
    "The quick brown fox jumps over the lazy dog, and 1,234.56 other things happen.",
    "def total(prices):\n    return sum(prices)  # in EUR: déjà vu, naïve, Straße",
    "Вода кипит при 100 °C; 水在一百度沸腾。 🙂",
)
"""Of letters, of code and numbers, of other scripts: tokenizers that cut all three alike are taken for the same."""
SHOWN = 5
"""How many tokens of each an error shows."""


def check_tokenizer(name: str, dialect: Dialect, vocabulary: Vocabulary, place: str) -> None:
    """Compare how the server and the tokenizer here cut three sentences.

    Raises:
        MemberError: They differ, so that the ids would mean other tokens; it names the sentence.
    """
    for sentence in SENTENCES:
        here, there = vocabulary.encode(sentence), dialect.tokenize(sentence)
        # What a tokenizer puts before every text, such as a BOS, is no part of how it cuts.
        if there[: len(vocabulary.prefix_ids)] == list(vocabulary.prefix_ids):
            there = there[len(vocabulary.prefix_ids) :]
        if here != there:
            at = next((at for at, (one, other) in enumerate(zip(here, there, strict=False)) if one != other), len(here))
            raise MemberError(
                f"member {quote(name)}: its tokenizer ({quote(place)}) must be that of the server's model; of "
                f"{quote(sentence)} it makes {len(here)} tokens and the server {len(there)}, the first that differ "
                f"being {quote(here[at : at + SHOWN])} and {quote(there[at : at + SHOWN])}: give that model's own "
                "tokenizer with tokenizer=, or name the model with server_model"
            )
