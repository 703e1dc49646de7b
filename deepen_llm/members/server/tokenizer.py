"""The vocabulary of a model that a server holds, from files that are here or on the hub."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.utils.hub import cached_file

from deepen_llm.errors import MemberError, quote
from deepen_llm.vocabulary import Vocabulary

MAX_JSON_BYTES = 16_000_000


def read_vocabulary(name: str, place: str, num_logits: int | None, chat_template: str | None) -> Vocabulary:
    """The vocabulary at a place: a folder, a file `tokenizer.json` or `*.gguf`, or a name on the hub.

    No code that comes with it is run.

    Args:
        name: What errors call the member.
        place: Of the tokenizer.
        num_logits: How many logits the server's model has; None where it does not say: then `config.json` may.
        chat_template: In place of the tokenizer's own.

    Raises:
        MemberError: There is none, or it cannot be read.
        MissingDependencyError: A GGUF file, and llama.cpp is not installed.
        VocabularyError: Its tokens cannot be read as bytes, or do not fit the logits.
    """
    path = Path(place).expanduser()
    if path.suffix.lower() == ".gguf":
        return _read_gguf(name, place, num_logits, chat_template)
    settings: list[Mapping[str, Any]] = []
    tokenizer: Any
    try:
        if path.is_file():
            tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(path))  # type: ignore[no-untyped-call]
        else:
            found = str(path) if path.is_dir() else place
            tokenizer = AutoTokenizer.from_pretrained(found)
            settings = [_read(found, "generation_config.json"), _read(found, "config.json")]
    except Exception as error:
        raise MemberError(
            f"member {quote(name)}: the tokenizer of its model cannot be read from {quote(place)} "
            f"({type(error).__name__}: {error}): give a folder with the model's tokenizer.json, that file, its GGUF "
            "file, or its name on the hub with tokenizer="
        ) from error
    texts = [values["text_config"] for values in settings if isinstance(values.get("text_config"), dict)]
    sizes = [size for values in [*texts, *settings] if isinstance(size := values.get("vocab_size"), int)]
    return Vocabulary.from_tokenizer(
        tokenizer,
        name=name,
        num_logits=num_logits or next(iter(sizes), None),
        eos_ids=[token_id for values in [*settings, *texts] for token_id in _read_ends(values)],
        chat_template=chat_template,
    )


def _read_gguf(name: str, place: str, num_logits: int | None, chat_template: str | None) -> Vocabulary:
    """The vocabulary in a GGUF file, mostly the one that the server was started with."""
    from deepen_llm.members.gguf.files import GGUFFiles
    from deepen_llm.members.gguf.library import load_library
    from deepen_llm.members.gguf.tokenizer import GGUFTokenizer

    source = GGUFTokenizer(GGUFFiles.find(place, name, load_library()).header, name)
    num_logits = num_logits or source.num_tokens
    return Vocabulary.from_source(source, name=name, num_logits=num_logits, chat_template=chat_template)


def _read(place: str, file: str) -> Mapping[str, Any]:
    """A file of settings beside the tokenizer; nothing where there is none."""
    found = cached_file(
        place, file, _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False
    )
    if found is None or Path(found).stat().st_size > MAX_JSON_BYTES:
        return {}
    values = json.loads(Path(found).read_bytes())
    return values if isinstance(values, dict) else {}


def _read_ends(values: Mapping[str, Any]) -> list[int]:
    """The ids that end a text, by one file of settings."""
    ids = values.get("eos_token_id")
    listed = ids if isinstance(ids, list) else [ids]
    return [token_id for token_id in listed if isinstance(token_id, int) and not isinstance(token_id, bool)]
