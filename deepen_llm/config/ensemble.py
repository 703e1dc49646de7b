"""An ensemble as a whole: what `ensemble.yaml` holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticSerializationError

from deepen_llm.config.fusion import FusionConfig
from deepen_llm.config.members import MemberConfig
from deepen_llm.config.settings import Settings, named
from deepen_llm.config.weighting import WeightingConfig, check_weights, check_word
from deepen_llm.errors import ConfigError, quote
from deepen_llm.text_file import write_text

OWN_VARIABLES = "DEEPEN_"
"""How the environment variables begin that a file may have sent to a server: whoever wrote it also named the server."""
PLACES = ("model", "tokenizer", "adapter")
"""Settings of a member that name a place, which may lie beside the configuration file."""


class EnsembleConfig(Settings):
    """An ensemble: its members, their weights, and how they are fused. What `ensemble.yaml` holds."""

    members: tuple[MemberConfig, ...]
    """The models, the main model first unless `main` says otherwise."""
    weights: tuple[float, ...] | WeightingConfig | None = None
    """One weight per member, summing to 1, or a word for weights that each request has for itself: "adaptive", which
    learn from its prompt and its answer whom to trust, or "prompt", from how well each member predicts the prompt; with
    settings, `{kind: adaptive, prior: [0.7, 0.3]}`. None is adaptive, "prompt" with `fuse="drawn"`, and uniform for a
    fusion method that does not take distributions as text."""
    main: int | str = 0
    """The main model, by position or by name: the ensemble speaks its vocabulary."""
    fusion: FusionConfig = Field(default_factory=FusionConfig)
    """How the members' distributions become one."""
    max_batch_size: int = Field(default=32, ge=1)
    """The most sequences that run at the same time; further ones wait."""
    prefill_tokens: int | None = Field(default=None, ge=1)
    """The most tokens of prompts that each member reads in a step while others are being answered; longer prompts take
    several steps. None: as many as take about one and a half times as long as a step without."""
    num_speculative_tokens: int = Field(default=16, ge=0, le=64)
    """How many tokens the members read ahead at most, written by the cheapest of them or looked up in the text, so that
    one pass serves several steps; the answers are the same. 0 turns it off."""
    drafts_from_answers: bool = True
    """Whether what earlier answers said is looked up, too. How long an answer takes then tells something of them: turn
    it off where those who ask must learn nothing of one another."""
    prefix_cache_bytes: int = Field(default=1 << 30, ge=0)
    """How much memory the members' caches of requests that are done may take, all members together: a request that
    begins with the same tokens, such as the next turn of a chat, starts behind them. With 0 nothing is kept, and how
    soon an answer begins tells nobody what others asked."""

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
    def _read_word(cls, weights: Any) -> Any:
        """A word names a way to weigh."""
        check_word(weights)
        if isinstance(weights, str):
            return WeightingConfig(kind=weights)
        return WeightingConfig(**named(weights, "WeightingConfig")) if isinstance(weights, dict) else weights

    @model_validator(mode="after")
    def _check_members(self) -> Self:
        if not self.members:
            raise ValueError("an ensemble needs at least one member; got none: give a list of models")
        check_weights(self.fixed_weights, len(self.members))
        if self.fusion.fuse == "drawn" and isinstance(self.weights, WeightingConfig) and self.weights.learns:
            raise ValueError(
                f"fuse='drawn' asks one member at a time, and weights={self.weights.kind!r} learn from what all of "
                "them give every word: write weights=[...], one a member, or weights='prompt', or fuse='always'"
            )
        return self

    @classmethod
    def explain_unknown(cls, name: str) -> str:
        """Also what a setting of earlier versions is called now."""
        if name == "weights_temperature":
            instead = "weights={'kind': 'prompt', 'temperature': ...}"
            return f"{cls.__name__} has no setting {name!r} any more: write {instead}"
        return super().explain_unknown(name)

    @property
    def request_weights(self) -> tuple[float, ...] | WeightingConfig:
        """The weights that are given, or else what stands for them: see `weights`."""
        if self.weights is None and self.fusion.projects and len(self.members) > 1:
            return WeightingConfig(kind="prompt" if self.fusion.fuse == "drawn" else "adaptive")
        return self.fixed_weights if self.weights is None else self.weights

    @property
    def fixed_weights(self) -> tuple[float, ...]:
        """One weight per member, for every request that brings none of its own; uniform where none are given."""
        return self.weights if isinstance(self.weights, tuple) else (1.0 / len(self.members),) * len(self.members)

    @classmethod
    def load(cls, path: str | Path, *, trust_remote_code: bool = False) -> Self:
        """Read a YAML file. Relative paths of models are taken from the file's own folder.

        Args:
            path: The file.
            trust_remote_code: Let its members run code that is not this library's, where the file asks for that. A file
                may come from a stranger, so that its own word is not enough.

        Raises:
            ConfigError: The file does not exist, is not a mapping, is beyond the limits of `config.yaml_file`, holds
                something that cannot be used, or asks for foreign code that nobody outside it allowed.
        """
        from deepen_llm.config.yaml_file import read_mapping

        _check_path(path)
        values = read_mapping(path, "an ensemble.yaml")
        config = cls(**_bring_up_to_date(named(values, cls.title())))
        if not trust_remote_code:
            _refuse_foreign_code(config.members, path)
        return config.replace(members=tuple(_resolve(member, Path(path).parent) for member in config.members))

    def save(self, path: str | Path, comment: str = "") -> None:
        """Write a YAML file that `load` reads back, over what was there, which stays where that fails; see `to_yaml`.

        Raises:
            ConfigError: A setting that no file can hold, or a file that cannot be written.
        """
        _check_path(path)
        write_text(Path(path), self.to_yaml(comment), "a configuration")

    def to_yaml(self, comment: str = "") -> str:
        """What `save` writes: models in folders by their whole path.

        The settings of fusion are written in full, so that the file keeps its meaning where a default changes; of the
        members, what was set. The lines of `comment` go before it.

        Raises:
            ConfigError: A setting that no file can hold, such as an object of torch; it names the member.
        """
        import yaml

        if not isinstance(comment, str):
            raise ConfigError(f"comment must be a text; got {quote(comment)}")
        values = {
            "members": [_describe(member) for member in self.members],
            "main": self.main,
            **self.model_dump(mode="json", exclude={"members", "main"}),
        }
        head = "".join(f"# {line}".rstrip() + "\n" for line in comment.splitlines())
        return head + yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)


def _check_path(path: object) -> None:
    if not isinstance(path, (str, Path)):
        raise ConfigError(f"path must be the name of a file; got {quote(path)}")


def _refuse_foreign_code(members: tuple[MemberConfig, ...], path: str | Path) -> None:
    for member in members:
        if foreign := [name for name in member.sent_variables if not name.startswith(OWN_VARIABLES)]:
            raise ConfigError(
                f"member {quote(member.model)} of {quote(str(path))} would be sent the environment variable "
                f"{', '.join(foreign)}, and a file may name only those that begin with {OWN_VARIABLES}: export the key "
                f"as {OWN_VARIABLES}{foreign[0]} and name that, or, if you know what the file asks, say so outside it: "
                "Ensemble.from_config(path, trust_remote_code=True), --trust-remote-code"
            )
        if asked := member.foreign_code:
            raise ConfigError(
                f"member {quote(member.model)} of {quote(str(path))} asks to run code that this library did not bring "
                f"({', '.join(asked)}), and a file's own word is not enough for that: read the code, and if you trust "
                "it say so outside the file: Ensemble.from_config(path, trust_remote_code=True), or on the command "
                "line --trust-remote-code; else take that setting out of the file"
            )


def _resolve(member: MemberConfig, folder: Path) -> MemberConfig:
    """The member with its paths made absolute as far as they exist beside the configuration file."""
    places = {name: folder / place for name in PLACES if (place := getattr(member, name, None)) is not None}
    found = {name: _whole_path(beside) for name, beside in places.items() if _exists(beside)}
    return member.replace(**found) if found else member


def _describe(member: MemberConfig) -> dict[str, Any]:
    """What was set of a member, as JSON values."""
    quantization = getattr(member, "quantization_config", None)
    if quantization is not None and hasattr(quantization, "to_dict"):
        # Dumping an object of transformers would lose settings without a word.
        member = member.replace(quantization_config=quantization.to_dict())
    try:
        values: dict[str, Any] = member.model_dump(mode="json", exclude_unset=True)
    except PydanticSerializationError as error:
        raise ConfigError(
            f"a file holds numbers, words, lists and mappings; a setting of member {member.model!r} is something "
            f"else: {error}: write it as words (dtype='float16'), or keep this ensemble in Python"
        ) from error
    for name in PLACES:
        place = values.get(name)
        if place is not None and _exists(Path(place)):
            values[name] = _whole_path(Path(place))
    return values


def _exists(path: Path) -> bool:
    """Whether there is such a file or folder. What no path can be, such as 5,000 characters, is none."""
    try:
        return path.exists()
    except OSError:
        return False


def _whole_path(path: Path) -> str:
    """The absolute path. Its last part stays as it is, also of a link: the member is called by it."""
    is_named = path.name not in ("", "..")
    return str(path.parent.resolve() / path.name if is_named else path.resolve())


def _bring_up_to_date(values: dict[str, Any]) -> dict[str, Any]:
    """A file as earlier versions wrote it: with every setting of every fusion method, at its default where unused."""
    values = dict(values)
    if isinstance(fusion := values.get("fusion"), dict):
        chosen = FusionConfig.variant(fusion.get("method", "relative"))
        others = [FusionConfig.variant(kind) for kind in FusionConfig.variants]
        unused = {
            name
            for name, value in fusion.items()
            if name not in chosen.model_fields
            and any(name in other.model_fields and other.model_fields[name].get_default() == value for other in others)
        }
        values["fusion"] = {name: value for name, value in fusion.items() if name not in unused}
    if (temperature := values.pop("weights_temperature", None)) is not None and values.get("weights") == "prompt":
        values["weights"] = {"kind": "prompt", "temperature": temperature}
    return values
