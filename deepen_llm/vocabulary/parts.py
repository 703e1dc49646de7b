"""The parts of a tokenizer (model, normalizer, pre-tokenizer) as JSON, and copies of them changed for plain text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tokenizers import AddedToken, Tokenizer

SPACE_MARK = "▁"

CONTINUING: dict[str, dict[str, Any]] = {
    "Metaspace": {"prepend_scheme": "never"},
    "ByteLevel": {"add_prefix_space": False},
    "Strip": {"strip_left": False},
}
"""What changes in these parts where a text continues other text."""
ONE_SPACE = {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "}

BYTE_PIECE_SAMPLE = "<0x41>"
BREAK_BYTE_PIECES = {
    "type": "Split",
    "pattern": {"Regex": "<(?=0x[0-9A-Fa-f]{2}>)"},
    "behavior": "Isolated",
    "invert": False,
}
"""Where a model would read the text `<0x41>` as the byte 0x41: the text is broken after `<`."""


def describe_part(part: Any) -> dict[str, Any] | None:
    """A normalizer, pre-tokenizer, decoder or model of the tokenizers library as its JSON, or None where absent."""
    if part is None:
        return None
    state: dict[str, Any] = json.loads(part.__getstate__())
    return state


def walk_parts(part: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    """The part and everything inside it, where it is a sequence."""
    if part is None:
        return
    yield part
    for key in ("normalizers", "pretokenizers", "decoders"):
        for inner in part.get(key, ()):
            yield from walk_parts(inner)


def assemble(
    model: Any,
    normalizer: dict[str, Any] | None,
    pre_tokenizer: dict[str, Any] | None,
    added: list[tuple[int, AddedToken]],
) -> Tokenizer:
    """A tokenizer around an existing model, with parts given as JSON."""
    empty = {"type": "BPE", "vocab": {}, "merges": []}
    shell = Tokenizer.from_str(json.dumps({"model": empty, "normalizer": normalizer, "pre_tokenizer": pre_tokenizer}))
    tokenizer = Tokenizer(model)
    if normalizer is not None:
        tokenizer.normalizer = shell.normalizer
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = shell.pre_tokenizer
    tokenizer.add_tokens([token for _, token in added])
    return tokenizer


def break_byte_pieces(pre_tokenizer: dict[str, Any] | None) -> dict[str, Any]:
    """The pre-tokenizer, with a break inside every text that looks like a byte-fallback token."""
    parts = [part for part in (pre_tokenizer, BREAK_BYTE_PIECES) if part is not None]
    return {"type": "Sequence", "pretokenizers": parts}


def keep_spaces(
    normalizer: dict[str, Any] | None, pre_tokenizer: dict[str, Any] | None
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """The parts changed so that spaces stay in the text, for those that split it at spaces and then mark each word.

    T5, XLM-R and mBART do so (WhitespaceSplit, then Metaspace). The tokens of a text stay the same, but for a space at
    its end, which is a token then; and text that continues other text can be told from a word of its own.
    """
    parts = (pre_tokenizer or {}).get("pretokenizers", [])
    if [part["type"] for part in parts[:2]] != ["WhitespaceSplit", "Metaspace"]:
        return normalizer, pre_tokenizer
    before = [normalizer] if normalizer is not None else []
    return {"type": "Sequence", "normalizers": [*before, ONE_SPACE]}, {"type": "Sequence", "pretokenizers": parts[1:]}


def continue_text(part: dict[str, Any] | None) -> dict[str, Any] | None:
    """The part without its dummy space and without stripping at the left: text that continues other text."""
    if part is None or part["type"] == "Prepend":
        return None
    changes = CONTINUING.get(part["type"], {})
    for key in ("normalizers", "pretokenizers"):
        if key in part:
            changes = {key: [inner for inner in map(continue_text, part[key]) if inner is not None]}
    return {**part, **changes}


def read_prefix_scheme(parts: list[dict[str, Any]]) -> str:
    """Which texts get a dummy space: "always" (each section between special tokens), "first" or "never"."""
    for part in parts:
        if part["type"] == "Prepend" and part["prepend"] in (SPACE_MARK, " "):
            return "always"
        if part["type"] == "Metaspace":
            return str(part["prepend_scheme"])
        if part["type"] == "ByteLevel" and part.get("add_prefix_space"):
            return "always"
    return "never"


def silence(model: Any, specials: dict[int, str]) -> Any:
    """The model, or a copy of it that produces no special token and no random segmentation."""
    reachable = {piece for token_id, piece in specials.items() if can_produce(model, piece, token_id)}
    if not reachable and not getattr(model, "dropout", None):
        return model
    state: dict[str, Any] = json.loads(model.__getstate__())
    if state["type"] == "Unigram":
        state["vocab"] = [[_rename(piece, reachable), score] for piece, score in state["vocab"]]
    else:
        state["vocab"] = {_rename(piece, reachable): token_id for piece, token_id in state["vocab"].items()}
        state["merges"] = [merge for merge in state["merges"] if not reachable & {*merge, "".join(merge)}]
        state["unk_token"] = state["unk_token"] and _rename(state["unk_token"], reachable)
        state["dropout"] = None
    return Tokenizer.from_str(json.dumps({"model": state})).model


def can_produce(model: Any, piece: str, token_id: int | None) -> bool:
    """Whether the model makes this token of text: a token comes out of some text only if it comes out of its own."""
    return (
        token_id is not None
        and model.token_to_id(piece) == token_id
        and [token.id for token in model.tokenize(piece)] == [token_id]
    )


def _rename(piece: str, reachable: set[str]) -> str:
    return f"\x00\x00{piece}\x00\x00" if piece in reachable else piece
