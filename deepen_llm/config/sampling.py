"""How one answer is decoded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from deepen_llm.config.model_schema import read_model_schema
from deepen_llm.config.settings import Settings
from deepen_llm.config.weighting import check_weights
from deepen_llm.errors import ConfigError

MOST_BIAS = 100.0
"""A bias of this size rules a token out, or in, whatever the members say."""
NUM_SEEDS = 2**63


def _as_json_schema(value: Any) -> Any:
    """The schema of a pydantic model; anything else as it is."""
    is_model = isinstance(value, type) and issubclass(value, BaseModel)
    return read_model_schema(value) if is_model else value


def _read_bias(given: Any) -> Any:
    """A bias with ids as integers, also where they are strings of digits, which is all that JSON has for a key.

    Raises:
        ConfigError: A key that is neither an id nor a text, one that comes twice, or a bias out of range.
    """
    if not isinstance(given, Mapping):
        return given
    read: dict[int | str, float] = {}
    for key, bias in given.items():
        token = int(key) if isinstance(key, str) and key.isascii() and key.isdigit() and len(key) < 20 else key
        is_id = isinstance(token, int) and not isinstance(token, bool) and token >= 0
        is_text = isinstance(token, str) and token and not any("\ud800" <= sign <= "\udfff" for sign in token)
        if not (is_id or is_text) or token in read:
            wrong = "which comes twice" if token in read else "which is neither"
            raise ConfigError(f"logit_bias has a token's id or its text as key, each once; got {key!r}, {wrong}")
        is_number = isinstance(bias, int | float) and not isinstance(bias, bool)
        if not is_number or not -MOST_BIAS <= bias <= MOST_BIAS:
            raise ConfigError(f"logit_bias has numbers from -{MOST_BIAS:g} to {MOST_BIAS:g}; got {bias!r} for {key!r}")
        read[token] = float(bias)
    return read


LogitBias = Annotated[dict[int | str, float] | None, BeforeValidator(_read_bias)]
"""What is added for which token; None is none."""
StopIds = Annotated[
    tuple[Annotated[int, Field(ge=0, strict=True)], ...],
    BeforeValidator(lambda ids: (ids,) if isinstance(ids, int) else ids),
]
"""Ids of tokens, or one alone."""


class SamplingParams(Settings):
    """How one answer is decoded. Temperature 0 is greedy.

    A token is chosen in this order, greedily as well: from the fused log-probabilities, what a structure rules out is
    taken away; then come `logit_bias`, `repetition_penalty`, `frequency_penalty` and `presence_penalty`,
    `min_new_tokens`; then temperature, `top_k`, `top_p`, `min_p`. So no bias lets in what a structure rules out.
    `logprobs` and traces tell what the members said: the probabilities before a bias, a penalty or a filter.
    """

    max_new_tokens: int = Field(default=256, ge=1, strict=True)
    """The most tokens of the main model to generate."""
    temperature: float = Field(default=0.0, ge=0.0, le=100.0, allow_inf_nan=False, strict=True)
    """0 takes the best token; otherwise the fused log-probabilities are divided by it."""
    top_k: int = Field(default=0, ge=0, strict=True)
    """Keep the k best tokens; 0 keeps all."""
    top_p: float = Field(default=1.0, gt=0.0, le=1.0, strict=True)
    """Keep the smallest set of best tokens whose probability reaches this."""
    min_p: float = Field(default=0.0, ge=0.0, lt=1.0, strict=True)
    """Drop tokens less probable than this share of the best one's probability."""
    repetition_penalty: float = Field(default=1.0, gt=0.0, le=100.0, strict=True)
    """Above 1, make tokens less likely that were in prompt or answer, as transformers does: a positive logit is divided
    by this, a negative one multiplied. Logits are the fused log-probabilities on the scale of the main model's own."""
    presence_penalty: float = Field(default=0.0, ge=-2.0, le=2.0, strict=True)
    """Taken off the log-probability of every token that is in the answer, as OpenAI does; below 0, added."""
    frequency_penalty: float = Field(default=0.0, ge=-2.0, le=2.0, strict=True)
    """The same, once for each time that the token is in the answer."""
    logit_bias: LogitBias = None
    """Added to the log-probabilities of single tokens: {token: from -100 to 100}. A token is an id of the main model,
    also as a string of digits, or a text that is exactly one of its tokens, its space included: {" Paris": 5}."""
    min_new_tokens: int = Field(default=0, ge=0, strict=True)
    """Until so many tokens have come, neither end-of-sequence nor a stop token can, and no stop string counts."""
    stop: Annotated[tuple[str, ...], BeforeValidator(lambda stop: (stop,) if isinstance(stop, str) else stop)] = ()
    """Strings at which the answer ends; the text is cut before the first of them. A special token of the main model,
    as it is written, is a stop token."""
    stop_token_ids: StopIds = ()
    """Tokens of the main model at which the answer ends, special ones too; the text does not hold them."""
    seed: int | None = Field(default=None, ge=0, lt=NUM_SEEDS, strict=True)
    """Seed of this request's own generator; None draws one."""
    n: int = Field(default=1, ge=1, le=128, strict=True)
    """How many answers to draw; the first has the others as its `alternatives`. Each has the next greater seed."""
    logprobs: int | None = Field(default=None, ge=0, le=1000, strict=True)
    """Report each token's log-probability, with this many alternatives."""
    ignore_eos: bool = Field(default=False, strict=True)
    """Go on after end-of-sequence until max_new_tokens."""
    trace: bool = Field(default=False, strict=True)
    """Report every step: each member's best tokens, the fused ones, who changed the choice."""
    # Not dumped: what identifies an answer must not hold how long somebody waits for it.
    timeout_s: float | None = Field(default=None, gt=0.0, allow_inf_nan=False, strict=True, exclude=True)
    """Seconds from the call, its time in the queue included, after which a request that is not done fails and its work
    stops; None waits as long as it takes."""
    prior: tuple[float, ...] | None = None
    """The members' weights for this answer, in their order and summing to 1; 0 leaves a member out. Weights that learn
    begin with them, others stay so. None: those of the ensemble."""
    source: str | None = None
    """What members with an encoder (`kind="encoder-decoder"`) read: the text to translate, say. None: what their own
    settings find in the prompt, or else all of it; in a chat, in the last message of the user."""
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
    def _check_prior(self) -> Self:
        if self.prior is not None:
            check_weights(self.prior, len(self.prior), "the weights of prior")
        return self

    @model_validator(mode="after")
    def _check_numbers(self) -> Self:
        if self.min_new_tokens > self.max_new_tokens:
            raise ValueError(
                f"min_new_tokens must not exceed max_new_tokens; got {self.min_new_tokens} and {self.max_new_tokens}: "
                "raise max_new_tokens"
            )
        if self.n > 1 and self.temperature == 0:
            raise ValueError(
                f"greedy decoding has one answer; got n={self.n} with temperature=0: all would be equal: raise the "
                "temperature or leave n out"
            )
        return self

    @model_validator(mode="after")
    def _check_structure(self) -> Self:
        given = [name for name in ("json_schema", "regex", "grammar") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"an answer has one structure; got {' and '.join(given)}: give one of them")
        for name in ("stop", "stop_token_ids") if given else ():
            if stops := getattr(self, name):
                raise ValueError(f"{name} would cut an answer by {given[0]}; got {name}={list(stops)}: leave it out")
        for name in ("ignore_eos", "min_new_tokens") if given else ():
            if getattr(self, name):
                raise ValueError(f"{given[0]} ends the answer, and {name} goes on after its end: give one of them")
        return self

    def split(self) -> list[Self]:
        """The parameters of each of the `n` answers, with `n=1`; the first has the seed, each one the next."""
        if self.n == 1:
            return [self]
        seeds = [None if self.seed is None else (self.seed + place) % NUM_SEEDS for place in range(self.n)]
        return [self.replace(n=1, seed=seed) for seed in seeds]

    @property
    def is_structured(self) -> bool:
        """Whether a schema, a regular expression or a grammar says what an answer looks like."""
        return not (self.json_schema is None and self.regex is None and self.grammar is None)
