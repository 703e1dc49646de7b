"""GGUF files as members, run by llama.cpp in this process."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepen_llm.members.gguf.member import GGUFMember

__all__ = ["GGUFMember"]


def __getattr__(name: str) -> Any:
    """The member's class, with torch, when it is first asked for: settings alone need neither."""
    if name != "GGUFMember":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from deepen_llm.members.gguf.member import GGUFMember

    return GGUFMember
