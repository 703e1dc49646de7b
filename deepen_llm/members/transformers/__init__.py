"""Decoder-only causal language models of `transformers` as members, with ragged caches."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepen_llm.members.transformers.member import TransformersMember

__all__ = ["TransformersMember"]


def __getattr__(name: str) -> Any:
    """The member's class, with torch, when it is first asked for: settings alone need neither."""
    if name != "TransformersMember":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from deepen_llm.members.transformers.member import TransformersMember

    return TransformersMember
