"""Configuration: frozen, validated once, unknown keys refused. Every default is written here and nowhere else."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from deepen_llm.errors import ConfigError


class Settings(BaseModel):
    """Base of every configuration class: frozen, strict about names, errors that say what to type."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        arbitrary_types_allowed=True,
        protected_namespaces=(),
        use_attribute_docstrings=True,
    )

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ConfigError(self._explain(error)) from error

    def replace(self, **changes: Any) -> Self:
        """A copy with some settings changed, validated anew."""
        return type(self)(**{**{name: getattr(self, name) for name in self.model_fields_set}, **changes})

    @classmethod
    def _explain(cls, error: ValidationError) -> str:
        """All problems of one construction, a line each: which setting, what came, what must hold."""
        return "; ".join(cls._explain_one(dict(problem)) for problem in error.errors())

    @classmethod
    def _explain_one(cls, problem: dict[str, Any]) -> str:
        where = ".".join(str(part) for part in problem["loc"])
        if problem["type"] != "extra_forbidden":
            name = f"{cls.__name__}.{where}" if where else cls.__name__
            came = f"; got {problem['input']!r}" if where else ""
            return f"{name}: {problem['msg'].removeprefix('Value error, ')}{came}"
        return describe_unknown(where, cls.model_fields, owner=cls.__name__, kind="setting")


def describe_unknown(name: str, known: Iterable[str], *, owner: str, kind: str) -> str:
    """What to say of a name that is not among the known ones: the nearest of them, or all."""
    names = sorted(known)
    near = difflib.get_close_matches(name.rpartition(".")[2], names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known {kind}s: {', '.join(names)}"
    return f"{owner} has no {kind} {name!r}: {hint}"


def _as_json_schema(value: Any) -> Any:
    """The schema of a pydantic model; anything else as it is."""
    is_model = isinstance(value, type) and issubclass(value, BaseModel)
    return value.model_json_schema() if is_model else value


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


class MemberConfig(Settings):
    """One member: a model that `transformers` can load, and how to load it."""

    model: str
    """A folder, or the name of a model on the Hugging Face hub."""
    name: str | None = None
    """What errors and traces call this member; its folder or hub name where not given."""
    tokenizer: str | None = None
    """Where the tokenizer comes from, if not from `model`."""
    dtype: str = "auto"
    """A torch dtype by name ("float32", "bfloat16", ...) or "auto" for the checkpoint's own."""
    device: str | None = None
    """One device for the whole model, such as "cuda:1"; not together with `device_map`."""
    device_map: str | dict[str, Any] | None = None
    """Placement by accelerate, such as "auto"."""
    attn_implementation: str | None = None
    """Such as "sdpa", "eager" or "flash_attention_2"."""
    quantization_config: Any = None
    """A transformers quantization config, or its dictionary."""
    revision: str | None = None
    """Branch, tag or commit on the hub."""
    local_files_only: bool = False
    """Never ask the hub."""
    trust_remote_code: bool = False
    """Run code that comes with the checkpoint. Off unless asked for."""
    chat_template: str | None = None
    """A Jinja chat template in place of the tokenizer's own; "plain" writes roles in words, for a model without one."""
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Any further argument of `from_pretrained` (`adapter_kwargs`, `variant`, `subfolder`, ...)."""

    @model_validator(mode="after")
    def _check_placement(self) -> Self:
        if self.device is not None and self.device_map is not None:
            raise ValueError("give either device or device_map, not both")
        return self


class FusionConfig(Settings):
    """How the members' distributions become one.

    The published DeePEn (arXiv 2404.12715, section 3) is `FusionConfig.published()`.
    """

    method: Literal["relative", "text", "union", "equal_text"] = "relative"
    """`relative`: through the space of common tokens; `text`: the members' readings as text, averaged. To compare with:
    `union` of the members' best tokens, and the average over tokens of `equal_text`; of the settings below, these two
    keep `trust`, `main_ends` and `align_eos`."""
    top_k: int = Field(default=10, ge=1)
    """For `union`: how many of its best tokens each member brings in; no other token can come."""
    mean: Literal["arithmetic", "geometric"] = "arithmetic"
    """For `text` and `equal_text`: the mean of the members' probabilities."""
    reading: Literal["token", "text"] = "text"
    """How the members' distributions are read: `token`, as they are (the published way), or `text`, as what they say
    about how the text goes on, cut as the main model's own tokenizer would cut it. `union` and `equal_text` compare
    tokens as they are."""
    min_mass: float = Field(default=0.02, ge=0.0, le=1.0)
    """For `text`: a token that may still grow into a longer one of the main model is extended by a forward pass before
    it counts, if this much probability hangs on it."""
    max_rows: int = Field(default=4, ge=1)
    """For `text`: the most tokens that are extended in one forward pass, a sequence and member."""
    max_passes: int = Field(default=6, ge=0)
    """For `text`: the most such passes, a step and member."""
    fuse: Literal["always", "safe"] = "always"
    """`safe` leaves a step to the main model where it is sure of its best token, and where a member's text ends inside
    one of that member's tokens; the members' forward passes are put off until they are needed."""
    confidence: float = Field(default=0.95, gt=0.0, le=1.0)
    """For `safe`: with how much probability of its best token the main model is sure."""
    search: Literal["multiplicative", "gradient"] = "multiplicative"
    """The inverse search: `gradient` is the published one."""
    num_steps: int = Field(default=5, ge=0, le=1000)
    """Steps of the inverse search."""
    learning_rate: float = Field(default=0.15, gt=0.0, le=10.0)
    """The relative ensemble learning rate of the gradient search; the multiplicative search has none."""
    trust: float = Field(default=1.0, ge=0.0, le=1.0)
    """How far the answer moves from the main model's own distribution (0) to the one that the search found (1),
    in log-probabilities."""
    main_ends: bool = False
    """Where the main model's own best token is end-of-sequence, leave the step to it."""
    align_eos: bool = True
    """Count every member's end-of-sequence as one common token."""
    removed_directions: int | None = Field(default=None, ge=0)
    """Before cosines are taken, embeddings are centred and this many of their strongest directions removed, so that
    rarely trained tokens can be told apart. None removes one for every 100 dimensions; 0 removes nothing."""
    max_anchors: int | None = Field(default=None, ge=1)
    """The most anchors to use; None takes every common token."""
    max_candidates: int | None = Field(default=32, ge=1)
    """Each member speaks, and the search runs, over at most this many of its best tokens, in the sampled
    form over a small multiple of it. None takes all (exact; dense form only)."""
    form: Literal["auto", "dense", "sampled"] = "auto"
    """How the relative matrices are held: `dense`, whole, is for small vocabularies; `sampled` makes what a step needs;
    `auto` takes `dense` up to 8 million entries a matrix."""
    min_common_tokens: int = Field(default=64, ge=1)
    """Members that share fewer tokens than this are refused."""

    @model_validator(mode="after")
    def _check_reading(self) -> Self:
        if "reading" not in self.model_fields_set:
            return self
        if self.reading == "text" and self.method in ("union", "equal_text"):
            raise ValueError(
                f"method={self.method!r} compares tokens as they are and reads no text: leave reading out, or take "
                "method='relative' or method='text'"
            )
        if self.reading == "token" and self.method == "text":
            raise ValueError("method='text' is reading as text alone: leave reading out, or take method='relative'")
        return self

    @property
    def reads_text(self) -> bool:
        """Whether the members' distributions are read as text before they are fused."""
        return self.method == "text" or (self.method == "relative" and self.reading == "text")

    @classmethod
    def published(cls, **changes: Any) -> Self:
        """The published method, constant for constant (arXiv 2404.12715, section 3 and its released settings)."""
        settings: dict[str, Any] = {
            "reading": "token",
            "search": "gradient",
            "num_steps": 5,
            "learning_rate": 0.15,
            "main_ends": True,
            "align_eos": False,
            "removed_directions": 0,
            "max_candidates": None,
        }
        return cls(**{**settings, **changes})


class EnsembleConfig(Settings):
    """An ensemble: its members, their weights, and how they are fused. What `ensemble.yaml` holds."""

    members: tuple[MemberConfig, ...]
    weights: tuple[float, ...] | Literal["prompt"] | None = None
    """One weight a member, summing to 1; None is uniform. "prompt" gives each request weights of its own, from how well
    each member predicts its prompt."""
    weights_temperature: float = Field(default=0.2, gt=0.0, allow_inf_nan=False)
    """For `prompt`, in bits per byte of the prompt: the lower, the more weight goes to who predicts best."""
    main: int | str = 0
    """The main model, by position or by name: the ensemble speaks its vocabulary."""
    fusion: FusionConfig = Field(default_factory=FusionConfig)
    max_batch_size: int = Field(default=32, ge=1)
    """The most sequences that run at the same time; further ones wait."""

    @model_validator(mode="before")
    @classmethod
    def _read_short_forms(cls, values: Any) -> Any:
        """Members may be given as plain strings."""
        members = values.get("members") if isinstance(values, dict) else None
        if isinstance(members, (list, tuple)):
            values = {**values, "members": tuple({"model": m} if isinstance(m, str) else m for m in members)}
        return values

    @field_validator("weights", mode="before")
    @classmethod
    def _check_word(cls, weights: Any) -> Any:
        """One message, in place of one for every kind of value that weights may be."""
        if isinstance(weights, str) and weights != "prompt":
            raise ValueError("weights must be numbers, one a member and summing to 1, or the word 'prompt'")
        return weights

    @model_validator(mode="after")
    def _check_members(self) -> Self:
        if not self.members:
            raise ValueError("an ensemble needs at least one member; got none: give a list of models")
        check_weights(self.fixed_weights, len(self.members))
        return self

    @property
    def fixed_weights(self) -> tuple[float, ...]:
        """One weight a member, the same for every request that brings none of its own; uniform where none are given."""
        if self.weights is None or self.weights == "prompt":
            return (1.0 / len(self.members),) * len(self.members)
        return self.weights

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a YAML file. Relative paths of models are taken from the file's own folder.

        Raises:
            ConfigError: The file does not exist, is not a mapping, or holds something that cannot be used.
        """
        import yaml

        file = Path(path)
        if not file.is_file():
            raise ConfigError(f"there is no configuration file at {str(path)!r}: give the path of an ensemble.yaml")
        try:
            values = yaml.safe_load(file.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise ConfigError(f"{path} is not valid YAML: {error}") from error
        if not isinstance(values, dict):
            raise ConfigError(f"{path} must hold a mapping with the key `members`; got {type(values).__name__}")
        config = cls(**values)
        return config.replace(members=tuple(_resolve(member, file.parent) for member in config.members))


def _resolve(member: MemberConfig, folder: Path) -> MemberConfig:
    """The member with its model's path made absolute where that path exists beside the configuration file."""
    beside = folder / member.model
    return member.replace(model=str(beside.resolve())) if beside.exists() else member


def check_weights(weights: tuple[float, ...], num_members: int) -> None:
    """Refuse weights that are not a distribution over the members.

    Raises:
        ValueError: Wrong number, a negative or infinite weight, or a sum other than 1.
    """
    if len(weights) != num_members:
        raise ValueError(f"weights must be one a member: {num_members} members, got {len(weights)} weights")
    if any(not math.isfinite(weight) or weight < 0 for weight in weights):
        raise ValueError(f"weights must be finite and not negative; got {list(weights)}")
    if not math.isclose(sum(weights), 1.0, abs_tol=1e-6):
        raise ValueError(f"weights must sum to 1; got {list(weights)}, which sums to {sum(weights):g}")
