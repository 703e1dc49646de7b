"""Settings of members that llama.cpp runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from deepen_llm.config.members import MemberConfig

if TYPE_CHECKING:
    from deepen_llm.members.base import Member

MAX_ROWS = 240
"""llama.cpp keeps at most 256 sequences apart, of which some are for what is only looked at."""


class GGUFConfig(MemberConfig):
    """A GGUF file, and how llama.cpp runs it."""

    kind: Literal["gguf"] = "gguf"
    gpu_layers: int = Field(default=0, ge=-1)
    """How many of the model's layers go to a GPU, -1 for all; the package has to be built for one."""
    threads: int | None = Field(default=None, ge=1, le=512)
    """Threads that compute; where not given, one less than there are physical cores, and at least one."""
    context: int | None = Field(default=None, ge=1)
    """The most tokens of one row; where not given, the model's own, as far as `cache_tokens` reach."""
    cache_tokens: int | None = Field(default=None, ge=1)
    """Tokens of all rows together, for which memory is taken at once; where not given, eight rows of `context`, as far
    as that is 32,768 tokens at most and a quarter of the free memory. Tokens that are only looked at need a place,
    too."""
    rows: int = Field(default=64, ge=1, le=MAX_ROWS)
    """How many answers may run at the same time."""
    cache_type: Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"] = "f16"
    """In which number format keys and values are kept; "q8_0" takes half the memory of "f16"."""
    flash_attention: bool | None = None
    """Attention in one go, which takes less memory and rounds more; where not given, as llama.cpp decides, which is
    mostly on. A `cache_type` of less than 16 bits needs it."""
    repack: bool = False
    """Lay the weights out anew for this processor, which some formats gain speed by. Off because builds for Intel's AMX
    end the process by it where the machine does not allow that."""

    def load(self) -> Member:
        """See `MemberConfig.load`."""
        from deepen_llm.members.gguf.member import GGUFMember

        return GGUFMember.load(self)
