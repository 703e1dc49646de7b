"""Settings of relative fusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from deepen_llm.config.fusion import ProjectingConfig

if TYPE_CHECKING:
    from deepen_llm.fusion.relative.method import RelativeFusion
    from deepen_llm.members.base import Member


class RelativeConfig(ProjectingConfig):
    """Settings of fusion through the space of common tokens (arXiv 2404.12715, section 3)."""

    applies: ClassVar[Mapping[str, tuple[str, Any]]] = {
        **ProjectingConfig.applies,
        "min_mass": ("reading", "text"),
        "max_rows": ("reading", "text"),
        "max_passes": ("reading", "text"),
        "maps": ("reading", "text"),
        "learning_rate": ("search", "gradient"),
    }

    method: Literal["relative"] = "relative"
    reading: Literal["token", "text"] = "text"
    """How the members' distributions are read: `token`, as they are (the published way), or `text`, projected as text
    onto the main model's tokens, cut as its own tokenizer would cut it."""
    maps: Literal["rest", "all"] = "rest"
    """What of the projected distributions goes through the relative space: `rest`, what the main model's tokens cannot
    express, everything else being averaged as it is; or `all`."""
    search: Literal["multiplicative", "gradient"] = "multiplicative"
    """The inverse search: `gradient` is the published one."""
    num_steps: int = Field(default=5, ge=0, le=1000)
    """Steps of the inverse search."""
    learning_rate: float = Field(default=0.15, gt=0.0, le=10.0)
    """The relative ensemble learning rate of the gradient search."""
    anchors: Literal["bytes", "strings"] = "bytes"
    """Which tokens count as common: those with the same bytes, or (the published way) the vocabulary entries that are
    equal as strings, special and byte tokens among them."""
    max_anchors: int | None = Field(default=None, ge=1)
    """The most anchors to use; None takes every common token."""
    removed_directions: int | None = Field(default=None, ge=0)
    """Before cosines are taken, embeddings are centred and this many of their strongest directions removed, so that
    rarely trained tokens can be told apart. None removes one for every 100 dimensions; 0 removes nothing."""
    max_candidates: int | None = Field(default=32, ge=1)
    """Each member contributes, and the search runs over, at most this many of its best tokens. None takes all, which
    needs the dense form."""
    form: Literal["auto", "dense", "sampled"] = "auto"
    """How the relative matrices are held: `dense`, whole, is for small vocabularies; `sampled` makes what a step needs;
    `auto` takes `dense` up to 8 million entries a matrix, and where `max_candidates` is None."""
    min_common_tokens: int = Field(default=64, ge=1)
    """Members that share fewer tokens than this are refused."""

    @property
    def projects(self) -> bool:  # type: ignore[override]
        """Whether distributions are projected onto the main model's tokens before they are fused."""
        return self.reading == "text"

    @property
    def compares_strings(self) -> bool:  # type: ignore[override]
        """Whether tokens are told apart by how vocabularies write them."""
        return self.anchors == "strings"

    @model_validator(mode="after")
    def _check_form(self) -> Self:
        if self.max_candidates is None and self.form == "sampled":
            raise ValueError("form='sampled' searches over candidates: give max_candidates, or take form='dense'")
        return self

    def build(self, members: Sequence[Member], main: int) -> RelativeFusion:
        """See `FusionConfig.build`; tables are read or made with a progress bar.

        Raises:
            ConfigError: A member has no embeddings, or matrices do not fit into memory.
            VocabularyError: The members have too few tokens in common.
            NumericalError: Embeddings that hold NaN.
        """
        from deepen_llm.fusion.relative.build import build_relative
        from deepen_llm.fusion.relative.method import RelativeFusion

        if self.projects and self.maps == "rest" and self._says_all(members, main):
            return RelativeFusion(None, main, form=None)
        return build_relative(self, members, main)

    def _says_all(self, members: Sequence[Member], main: int) -> bool:
        """Whether no member's token is beyond the main model's vocabulary, single bytes that it lacks left aside."""
        vocabulary = members[main].vocabulary
        missing = {byte for byte, token_id in enumerate(vocabulary.byte_ids) if token_id is None}
        tokens = (token for member in members for token in member.vocabulary.tokens if token and len(token) > 1)
        can_end = bool(vocabulary.eos_ids) and self.align_eos
        return can_end and (not missing or not any(missing.intersection(token) for token in tokens))
