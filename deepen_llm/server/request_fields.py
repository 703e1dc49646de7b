"""The fields of requests that all kinds of answers share, and what becomes of fields that nobody knows."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from deepen_llm.config import SamplingParams
from deepen_llm.errors import quote
from deepen_llm.server.refusals import RefusedError, naming
from deepen_llm.structure import check_structure

ENGINE_NAMES = {
    "min_tokens": "min_new_tokens",
    **{name: name for name in ("temperature", "top_p", "top_k", "min_p", "n", "seed", "stop", "stop_token_ids")},
    **{name: name for name in ("presence_penalty", "frequency_penalty", "repetition_penalty", "logit_bias")},
    "ignore_eos": "ignore_eos",
}
"""Fields with a setting of `SamplingParams` behind them."""
TEMPERATURE = 1.0
"""What OpenAI documents where no temperature is given."""


class Extension(BaseModel):
    """What only this library knows of: the field `deepen`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    trace: bool = False
    """Tell of every step what each member said."""
    timeout_s: float | None = Field(default=None, ge=1, allow_inf_nan=False)
    """Seconds after which the request fails, where that is earlier than the server's own limit."""
    prior: dict[str, float] | list[float] | None = None
    """The members' weights for this answer, by name (who is not named is left out) or in their order, summing to 1."""
    regex: str | None = None
    """The answer matches this regular expression."""
    grammar: str | None = None
    """The answer is of this grammar, in the notation of llguidance."""
    source: str | None = None
    """What members with an encoder read of the prompt."""


class StreamOptions(BaseModel):
    """What a stream tells beside its pieces."""

    model_config = ConfigDict(extra="forbid", strict=True)

    include_usage: bool = False
    """Whether a last piece tells how many tokens there were."""
    include_obfuscation: bool = False
    """Padding against listeners, which is only ever left out here."""


class RequestFields(BaseModel):
    """What a request for an answer may hold. Fields that are not known are kept, to be refused by name."""

    model_config = ConfigDict(extra="allow", strict=True, use_attribute_docstrings=True)

    harmless: ClassVar[frozenset[str]] = frozenset(
        {"user", "metadata", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "service_tier"}
    )
    """Fields that are for the service at the other end and change no answer."""
    neutral: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    """Fields that cannot be followed, with the values that ask for nothing."""
    known: ClassVar[Mapping[str, str]] = {}
    """Fields that cannot be followed at all, each with what to do instead."""

    model: str | None = None
    """The ensemble's name, or a member's, which is then asked alone; none is the ensemble."""
    stream: bool = False
    """Whether the answer comes piece by piece, as server-sent events."""
    stream_options: StreamOptions | None = None
    temperature: float | None = None
    """1 where it is not given; 0 takes the best token."""
    top_p: float | None = None
    n: int | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    min_tokens: int | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool | None = None
    deepen: Extension | None = None

    @property
    def extension(self) -> Extension:
        """What only this library knows of, with its defaults where nothing is given."""
        return self.deepen or Extension()

    @property
    def tells_usage(self) -> bool:
        """Whether a stream ends with the usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    def check_fields(self) -> None:
        """Refuse what is asked for and cannot be done.

        Raises:
            RefusedError: It names the field.
        """
        for name, value in (self.model_extra or {}).items():
            if value is None or name in self.harmless or value in self.neutral.get(name, ()):
                continue
            raise RefusedError(self._explain_unknown(name, value), param=name, code="unsupported_parameter")
        if self.stream_options is not None and not self.stream:
            raise RefusedError("stream_options go with stream=true: leave them out", param="stream_options")

    def _explain_unknown(self, name: str, value: Any) -> str:
        if name in self.neutral:
            only = " or ".join(map(repr, self.neutral[name]))
            return f"{name} can only be {only} here; got {quote(value)}: leave it out"
        if name in self.known:
            return f"{name} is not followed by this server: {self.known[name]}"
        near = difflib.get_close_matches(name, type(self).model_fields, n=1)
        hint = f"did you mean {near[0]}?" if near else "leave it out"
        return f"this server knows no field {quote(name)}: {hint}"

    def sampling_params(self, timeout_s: float, member_names: Sequence[str], **changes: Any) -> SamplingParams:
        """How to decode.

        Args:
            timeout_s: The server's own limit.
            member_names: Those of the model that is asked.
            **changes: What the kind of request adds, by the names of `SamplingParams`.

        Raises:
            RefusedError: A value that cannot be used, by the field's name.
        """
        given = {own: value for name, own in ENGINE_NAMES.items() if (value := getattr(self, name)) is not None}
        asked = self.extension
        limit = timeout_s if asked.timeout_s is None else min(asked.timeout_s, timeout_s)
        structure = {name: value for name in ("regex", "grammar") if (value := getattr(asked, name)) is not None}
        values = {"temperature": TEMPERATURE, **given, **structure, **changes, "timeout_s": limit}
        values |= {"trace": asked.trace, "source": asked.source, "prior": self._read_prior(member_names)}
        names = {own: name for name, own in ENGINE_NAMES.items()} | {name: f"deepen.{name}" for name in structure}
        with naming(None, {**names, "max_new_tokens": "max_tokens"}):
            params = SamplingParams(**values)
        with naming("deepen" if structure else "response_format"):
            check_structure(params)
        return params

    def _read_prior(self, member_names: Sequence[str]) -> tuple[float, ...] | None:
        """The weights of this request, one per member.

        Raises:
            RefusedError: They are not of these members.
        """
        given = self.extension.prior
        if isinstance(given, dict):
            if unknown := [name for name in given if name not in member_names]:
                message = (
                    f"deepen.prior has weights of members; got {quote(unknown[0])}: they are {', '.join(member_names)}"
                )
                raise RefusedError(message, param="deepen")
            given = [given.get(name, 0.0) for name in member_names]
        if given is not None and len(given) != len(member_names):
            message = f"deepen.prior must be one weight a member; got {len(given)} for {', '.join(member_names)}"
            raise RefusedError(message, param="deepen")
        return None if given is None else tuple(given)

    def check_max_tokens(self, asked: int | None, limit: int | None) -> None:
        """Refuse an answer longer than the server gives.

        Raises:
            RefusedError: It is.
        """
        if asked is not None and limit is not None and asked > limit:
            raise RefusedError(
                f"max_tokens must be at most {limit} here; got {asked}: ask for less", param="max_tokens"
            )
