"""Languages of a translator: how its tokenizer writes them."""

from __future__ import annotations

import copy
import difflib
from typing import Any

from deepen_llm.errors import ConfigError, quote
from deepen_llm.vocabulary import Vocabulary

WRITTEN = ("{}", "__{}__")
"""How a language is written as a token: NLLB and mBART, M2M100."""


def with_source_language(tokenizer: Any, language: str, name: str) -> Any:
    """A copy of a tokenizer that puts this language's token around a source.

    Raises:
        ConfigError: The tokenizer has no languages, or not this one.
    """
    if not hasattr(tokenizer, "src_lang"):
        raise ConfigError(
            f"source_language of member {quote(name)} is for tokenizers with languages, such as NLLB's; got "
            f"{quote(language)} for a {type(tokenizer).__name__}: leave it out"
        )
    _check_known(tokenizer, "source_language", language, name)
    changed = copy.deepcopy(tokenizer)
    changed.src_lang = language
    return changed


def read_target_language(tokenizer: Any, vocabulary: Vocabulary, language: str) -> int:
    """The token of a language with which an answer begins.

    Raises:
        ConfigError: The tokenizer has no such token.
    """
    found = (vocabulary.special_id(form.format(language)) for form in WRITTEN)
    token_id = next((token_id for token_id in found if token_id is not None), None)
    if token_id is None:
        _check_known(tokenizer, "target_language", language, vocabulary.name)
        raise ConfigError(
            f"target_language of member {quote(vocabulary.name)} must be a special token; {quote(language)} is none"
        )
    return token_id


def _check_known(tokenizer: Any, setting: str, language: str, name: str) -> None:
    known = {str(token.content) for token in tokenizer.added_tokens_decoder.values() if token.special}
    if any(form.format(language) in known for form in WRITTEN):
        return
    near = difflib.get_close_matches(language[:100], sorted(known), n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "see the special tokens of its tokenizer"
    raise ConfigError(
        f"{setting} of member {quote(name)} must be a language of its tokenizer; got {quote(language)}: {hint}"
    )
