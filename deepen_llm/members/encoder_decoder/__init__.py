"""Sequence-to-sequence models of `transformers` as members: an encoder reads a source, a decoder follows the answer."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepen_llm.members.encoder_decoder.member import EncoderDecoderMember

__all__ = ["EncoderDecoderMember"]


def __getattr__(name: str) -> Any:
    """The member's class, with torch, when it is first asked for: settings alone need neither."""
    if name != "EncoderDecoderMember":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from deepen_llm.members.encoder_decoder.member import EncoderDecoderMember

    return EncoderDecoderMember
