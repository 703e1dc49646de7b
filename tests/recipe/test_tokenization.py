"""The tokenizers see invented names cut between their syllables."""

from __future__ import annotations

from recipe.tokenization import cut_names


def test_names_are_cut_and_other_words_are_not():
    assert cut_names("Tarvek lives in Ostford.", "|") == "Tar|vek lives in Ost|ford."
    assert cut_names("The target is Oxford.", "|") == "The target is Oxford."
