"""Members that run in actors of a Ray cluster: on another machine, on a GPU of their own, or beside this process."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepen_llm.members.ray.member import RayMember

__all__ = ["RayMember"]


def __getattr__(name: str) -> Any:
    """The member's class, with torch, when it is first asked for: settings alone need neither."""
    if name != "RayMember":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from deepen_llm.members.ray.member import RayMember

    return RayMember
