"""The tokenizer of a model that a server holds, from files that are here or on the hub."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.utils.hub import cached_file

from deepen_llm.errors import MemberError, quote

MAX_JSON_BYTES = 16_000_000


@final
@dataclass(frozen=True, slots=True)
class ModelTokenizer:
    """A tokenizer, and what the files beside it say of the model."""

    tokenizer: Any
    num_logits: int | None
    """How many logits the model has, where `config.json` says so."""
    eos_ids: tuple[int, ...]
    """The ends that `generation_config.json` and `config.json` name."""


def load_tokenizer(name: str, place: str) -> ModelTokenizer:
    """The tokenizer in a folder, in a file `tokenizer.json`, or of a name on the hub. No code of theirs is run.

    Raises:
        MemberError: There is none, or it cannot be read; it names the member.
    """
    path = Path(place).expanduser()
    try:
        if path.is_file():
            alone = PreTrainedTokenizerFast(tokenizer_file=str(path))  # type: ignore[no-untyped-call]
            return ModelTokenizer(alone, None, ())
        found = str(path) if path.is_dir() else place
        tokenizer = AutoTokenizer.from_pretrained(found)
        config, generation = _read(found, "config.json"), _read(found, "generation_config.json")
    except Exception as error:
        raise MemberError(
            f"member {quote(name)}: the tokenizer of its model cannot be read from {quote(place)} "
            f"({type(error).__name__}: {error}): give a folder with the model's tokenizer.json, that file, or the "
            "model's name on the hub with tokenizer="
        ) from error
    text = config.get("text_config")
    text = text if isinstance(text, dict) else config
    size = text.get("vocab_size", config.get("vocab_size"))
    eos_ids = [*_read_ids(generation), *_read_ids(text), *_read_ids(config)]
    return ModelTokenizer(tokenizer, size if isinstance(size, int) else None, tuple(dict.fromkeys(eos_ids)))


def _read(place: str, file: str) -> Mapping[str, Any]:
    """A file of settings beside the tokenizer; nothing where there is none."""
    found = cached_file(
        place, file, _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False
    )
    if found is None or Path(found).stat().st_size > MAX_JSON_BYTES:
        return {}
    values = json.loads(Path(found).read_bytes())
    return values if isinstance(values, dict) else {}


def _read_ids(values: Mapping[str, Any]) -> list[int]:
    ids = values.get("eos_token_id")
    listed = ids if isinstance(ids, list) else [ids]
    return [token_id for token_id in listed if isinstance(token_id, int) and not isinstance(token_id, bool)]
