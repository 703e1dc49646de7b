"""How the members' distributions become one: what every fusion method can be told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from deepen_llm.config.settings import Variants

if TYPE_CHECKING:
    from deepen_llm.fusion.base import FusionMethod
    from deepen_llm.members.base import Member

METHODS = {
    "relative": "deepen_llm.fusion.relative.settings:RelativeConfig",
    "text": "deepen_llm.fusion.text:TextConfig",
    "union": "deepen_llm.fusion.union:UnionConfig",
    "equal_text": "deepen_llm.fusion.equal_text:EqualTextConfig",
}
"""The fusion methods, each with the class of its settings. A new method is a file and a line here."""


class FusionConfig(Variants):
    """How the members' distributions become one. `method` says which settings there are beside these.

    The published DeePEn (arXiv 2404.12715, section 3) is `FusionConfig.published()`.
    """

    if TYPE_CHECKING:

        def __init__(self, **values: Any) -> None:
            """Takes the settings of the kind that is named."""

    variant_field = "method"
    variants = METHODS
    applies: ClassVar[Mapping[str, tuple[str, Any]]] = {"confidence": ("fuse", "safe")}
    projects: ClassVar[bool] = False
    """Whether the method takes the other members' distributions projected onto the main model's tokens, as text."""
    is_drawable: ClassVar[bool] = False
    """Whether the fused distribution is a mixture of the members', so that one of them may be drawn to say it."""
    compares_strings: ClassVar[bool] = False
    """Whether tokens are told apart by how vocabularies write them; if not, those with the same bytes count as one."""

    method: str = "relative"
    """`relative`: through the space of common tokens; `text`: the members' distributions as text, averaged. To compare
    with: `union` of the members' best tokens, and the average over tokens of `equal_text`."""
    trust: float = Field(default=1.0, ge=0.0, le=1.0)
    """How far the answer moves from the main model's own distribution (0) to the fused one (1), in logprobs."""
    main_ends: bool = False
    """Where the main model's own best token is end-of-sequence, leave the step to it."""
    align_eos: bool = True
    """Count every member's end-of-sequence as one common token."""
    fuse: Literal["always", "safe", "drawn"] = "always"
    """`safe` leaves a step to the main model where it is sure of its best token, and where a member's text ends inside
    one of that member's tokens; the members' forward passes are put off until they are needed. `drawn` draws one member
    for each word, by the weights, which writes it alone: with `method="text"` and answers at temperature 1, one forward
    pass in place of one a member. What the others would have said is then not known."""
    confidence: float = Field(default=0.95, gt=0.0, le=1.0)
    """How much probability of its best token makes the main model sure of it."""

    @model_validator(mode="after")
    def _check_drawn(self) -> Self:
        if self.fuse == "drawn":
            for name, value in {"trust": 1.0, "main_ends": False}.items():
                if getattr(self, name) != value:
                    raise ValueError(
                        f"fuse='drawn' asks one member at a time, and {name}={getattr(self, name)!r} needs the main "
                        f"model's distribution beside the fused one: leave {name} out, or write fuse='always'"
                    )
            if not self.is_drawable:
                raise ValueError(
                    f"fuse='drawn' draws one member for each word, which is exact for a mean of distributions as text; "
                    f"got method={self.method!r}: write method='text', or fuse='always'"
                )
        return self

    def build(self, members: Sequence[Member], main: int) -> FusionMethod:
        """The method for these members, of which `main` is the main model.

        Raises:
            ConfigError: Members for which the method does not work.
            VocabularyError: Members that share too few tokens.
        """
        raise NotImplementedError

    @classmethod
    def published(cls, **changes: Any) -> Self:
        """The published method, constant for constant (arXiv 2404.12715, section 3 and its released code).

        Anchors are the vocabulary entries that are equal as strings, special and byte tokens among them; the matrices
        are whole, so that large vocabularies are refused, with the memory that they would take.
        """
        settings: dict[str, Any] = {
            "reading": "token",
            "search": "gradient",
            "num_steps": 5,
            "learning_rate": 0.15,
            "main_ends": True,
            "align_eos": False,
            "anchors": "strings",
            "removed_directions": 0,
            "max_candidates": None,
            "form": "dense",
        }
        return cls(**{**settings, **changes})


class ProjectingConfig(FusionConfig):
    """Settings of the methods that take distributions as text: how far a member's tokens are expanded."""

    projects = True

    min_mass: float = Field(default=0.02, ge=0.0, le=1.0)
    """A member's token that may still grow into a longer one of the main model is expanded by a forward pass before it
    counts, if this much probability hangs on it."""
    max_rows: int = Field(default=4, ge=1)
    """The most tokens that are expanded in one forward pass, per sequence and member."""
    max_passes: int = Field(default=6, ge=0)
    """The most such passes, per step and member."""

    @model_validator(mode="after")
    def _check_expansion(self) -> Self:
        for name in ("min_mass", "max_rows", "max_passes") if self.fuse == "drawn" else ():
            if getattr(self, name) != type(self).model_fields[name].get_default():
                raise ValueError(
                    f"{name} is about expanding tokens, and with fuse='drawn' none are: leave it out, or write "
                    "fuse='always'"
                )
        return self
