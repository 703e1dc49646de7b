"""How one answer is decoded."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from deepen_llm.config.model_schema import read_model_schema
from deepen_llm.config.settings import Settings


def _as_json_schema(value: Any) -> Any:
    """The schema of a pydantic model; anything else as it is."""
    is_model = isinstance(value, type) and issubclass(value, BaseModel)
    return read_model_schema(value) if is_model else value


class SamplingParams(Settings):
    """How one answer is decoded. Temperature 0 is greedy."""

    max_new_tokens: int = Field(default=256, ge=1)
    """The most tokens of the main model to generate."""
    temperature: float = Field(default=0.0, ge=0.0, le=100.0, allow_inf_nan=False)
    """0 takes the best token; otherwise the fused log-probabilities are divided by it."""
    top_k: int = Field(default=0, ge=0)
    """Keep the k best tokens; 0 keeps all."""
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    """Keep the smallest set of best tokens whose probability reaches this."""
    min_p: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Drop tokens less probable than this share of the best one's probability."""
    stop: Annotated[tuple[str, ...], BeforeValidator(lambda stop: (stop,) if isinstance(stop, str) else stop)] = ()
    """Strings at which the answer ends; the text is cut before the first of them."""
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    """Seed of this request's own generator; None draws one."""
    logprobs: int | None = Field(default=None, ge=0, le=100)
    """Report each token's log-probability, with this many alternatives."""
    ignore_eos: bool = False
    """Go on after end-of-sequence until max_new_tokens."""
    trace: bool = False
    """Report every step: each member's best tokens, the fused ones, who changed the choice."""
    # Not dumped: what identifies an answer must not hold how long somebody waits for it.
    timeout_s: float | None = Field(default=None, gt=0.0, allow_inf_nan=False, strict=True, exclude=True)
    """Seconds from the call, its time in the queue included, after which a request that is not done fails and its work
    stops; None waits as long as it takes."""
    json_schema: Annotated[dict[str, Any] | None, BeforeValidator(_as_json_schema)] = None
    """The answer is JSON of this schema, which may also be given as a pydantic model: it always parses."""
    regex: str | None = None
    """The answer matches this regular expression, as a whole."""
    grammar: str | None = None
    """The answer is of this grammar, in the Lark-like notation of llguidance."""

    @model_validator(mode="after")
    def _check_stop(self) -> Self:
        if any(not stop for stop in self.stop):
            raise ValueError("stop strings must not be empty: leave the empty string out of `stop`")
        return self

    @model_validator(mode="after")
    def _check_structure(self) -> Self:
        given = [name for name in ("json_schema", "regex", "grammar") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"an answer has one structure; got {' and '.join(given)}: give one of them")
        if given and self.stop:
            raise ValueError(f"stop would cut an answer by {given[0]}; got stop={list(self.stop)}: leave it out")
        if given and self.ignore_eos:
            raise ValueError(f"{given[0]} ends the answer, and ignore_eos goes on after its end: give one of them")
        return self

    @property
    def is_structured(self) -> bool:
        """Whether a schema, a regular expression or a grammar says what an answer looks like."""
        return not (self.json_schema is None and self.regex is None and self.grammar is None)
