"""What the LLM and the chat model have in common: the ensemble behind them, their options, their identity."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any, Self

from langchain_core.language_models.base import BaseLanguageModel, LangSmithParams, LanguageModelOutputVar
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import get_config_list
from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticSerializationError

from deepen_llm.config import FusionConfig, GivenWeights, LogitBias, SamplingParams, StopIds
from deepen_llm.errors import DeepenError
from deepen_llm.frontends.options import ALIASES, OPTION_NAMES, check_names, make_params, put_nearer, resolve_aliases
from deepen_llm.frontends.source import EnsembleSource, ModelSource, without_paths
from deepen_llm.structure import check_structure
from langchain_deepen._version import __version__
from langchain_deepen.open_ensemble import OpenEnsemble
from langchain_deepen.options import as_json_schema, read_call

if TYPE_CHECKING:
    from deepen_llm.ensemble import Ensemble

_SOURCE_NAMES = [field.name for field in fields(EnsembleSource)]
_HIDDEN_NAMES = {"opened", "custom_get_token_ids"}


class EnsembleModel(BaseLanguageModel[LanguageModelOutputVar]):
    """A LangChain model over a `deepen_llm.Ensemble`.

    Give either `model`, which is loaded at once, or a ready `ensemble`, which may be shared with other models and
    stays the caller's to close. The options of a request may be given here, with `bind`, or with each call; the
    nearer one counts.
    """

    model_config = ConfigDict(populate_by_name=True, protected_namespaces=())

    model: ModelSource | None = None
    """A list of models, the path of an `ensemble.yaml`, an `EnsembleConfig`, or "starter" for the bundled models."""
    weights: GivenWeights = None
    """One weight per member, summing to 1; uniform where not given. "prompt" gives each request weights of its own."""
    main: int | str | None = None
    """The main model, by position or name; the first where not given."""
    fusion: FusionConfig | None = None
    """How the members are fused."""
    max_batch_size: int | None = None
    """The most sequences that run at the same time."""
    member_options: dict[str, Any] | None = Field(default=None, repr=False)
    """Loading options for every member of a list: `dtype`, `device_map`, `local_files_only`, ..."""
    opened: OpenEnsemble | None = Field(default=None, alias="ensemble", exclude=True, repr=False)
    """The open ensemble; the constructor takes an `Ensemble` as `ensemble=`."""

    temperature: float | None = None
    """0 is greedy, and the engine's default."""
    max_tokens: int | None = None
    """The most tokens to generate; `max_new_tokens` is the same option."""
    top_p: float | None = None
    """Keep the smallest set of best tokens whose probability reaches this."""
    top_k: int | None = None
    """Keep the k best tokens."""
    min_p: float | None = None
    """Drop tokens less probable than this share of the best one's probability."""
    repetition_penalty: float | None = Field(default=None, strict=True)
    """Above 1, make tokens less likely that were in prompt or answer."""
    presence_penalty: float | None = Field(default=None, strict=True)
    """Taken off the log-probability of every token that is in the answer."""
    frequency_penalty: float | None = Field(default=None, strict=True)
    """The same, once for each time that the token is in the answer."""
    logit_bias: LogitBias = None
    """Added to the log-probabilities of single tokens: {token: from -100 to 100}, by id or by text."""
    min_new_tokens: int | None = Field(default=None, strict=True)
    """Until so many tokens have come, nothing ends the answer."""
    stop: Annotated[list[str] | None, BeforeValidator(lambda stop: [stop] if isinstance(stop, str) else stop)] = None
    """Strings at which an answer ends; a call's own `stop` takes their place."""
    stop_token_ids: StopIds | None = None
    """Tokens of the main model at which an answer ends."""
    seed: int | None = None
    """Seed of each request's own generator."""
    n: int | None = Field(default=None, strict=True)
    """How many answers to draw to each prompt: as many generations in what `generate` returns."""
    logprobs: bool | int | None = None
    """Report each token's log-probability, with this many alternatives (True: with none)."""
    ignore_eos: bool | None = None
    """Go on after end-of-sequence."""
    trace: bool | None = None
    """Report what each member said at every step."""
    source: str | None = None
    """What members with an encoder read; None: what they find in the prompt. Mostly an option of a call."""
    prior: tuple[float, ...] | None = None
    """The members' weights for an answer, in their order and summing to 1; 0 leaves a member out."""
    json_schema: Annotated[dict[str, Any] | None, BeforeValidator(as_json_schema)] = None
    """Every answer is JSON of this schema, which may also be given as a pydantic model or a TypedDict."""
    regex: str | None = None
    """Every answer matches this regular expression, as a whole."""
    grammar: str | None = None
    """Every answer is of this grammar, in the Lark-like notation of llguidance."""
    timeout: float | None = Field(default=None, gt=0)
    """Seconds that a request may take, its time in the queue included; then its work in the engine stops, and
    `MemberTimeoutError`, which is a `TimeoutError`, is raised."""
    max_retries: int | None = Field(default=None, ge=0)
    """Taken because LangChain's models have it. Nothing is tried again: a local model that failed once, by an error and
    not by a lost connection, fails the same way again. `with_retry` is there for who knows better."""
    streaming: bool | None = None
    """Send tokens to the callbacks also where the caller does not stream."""

    def __init__(self, **settings: Any) -> None:
        """Check the settings, and load the models unless the ensemble is ready.

        Raises:
            ConfigError: A setting that does not exist or cannot be used.
            GrammarError: A schema, regular expression or grammar that cannot be followed; no model is loaded.
            DeepenError: Whatever keeps the ensemble from loading.
            pydantic.ValidationError: A value of the wrong type.
        """
        try:
            super().__init__(**settings)
        except ValidationError as error:
            # pydantic wraps every ValueError, and our own errors are ValueErrors with a better message.
            causes = [problem.get("ctx", {}).get("error") for problem in error.errors()]
            own = [cause for cause in causes if isinstance(cause, DeepenError)]
            if own:
                raise own[0] from None
            raise

    @model_validator(mode="before")
    @classmethod
    def _check_setting_names(cls, values: Any) -> Any:
        """Refuse settings that do not exist, resolve aliases, and refuse settings that contradict each other."""
        if not isinstance(values, dict):
            return values
        known = {field.alias or name for name, field in cls.model_fields.items()} - _HIDDEN_NAMES
        names = [name for name in values if name not in (*_HIDDEN_NAMES, *ALIASES)]
        check_names(names, known, owner=cls.__name__, kind="setting")
        return resolve_aliases(values)

    @field_validator("opened", mode="before")
    @classmethod
    def _wrap_ensemble(cls, value: Any) -> Any:
        """Accept an `Ensemble` as it is."""
        return value if value is None or isinstance(value, OpenEnsemble) else OpenEnsemble(value)

    @model_validator(mode="after")
    def _open_ensemble(self) -> Self:
        """Check the options, then open the ensemble unless it is open already.

        LangChain's `configurable_fields` builds a new model from this one's fields for each call: an ensemble that
        was opened from the same source is used again.
        """
        check_structure(self._params(None, {}))
        source = EnsembleSource(**{name: getattr(self, name) for name in _SOURCE_NAMES})
        if self.opened is None or (self.opened.source is not None and self.opened.source != source):
            self.opened = OpenEnsemble(source.open(), source)
        elif self.opened.source is None:
            source.open_unless(self.opened.ensemble)
        return self

    @model_validator(mode="after")
    def _set_langchain_deepen_version(self) -> Self:
        """Tell traces which version of this package ran."""
        self._add_version("langchain-deepen", __version__)
        return self

    @property
    def ensemble(self) -> Ensemble:
        """The ensemble that answers."""
        return self._open.ensemble

    @property
    def _open(self) -> OpenEnsemble:
        if self.opened is None:
            raise RuntimeError("a model built by model_construct() has no ensemble: use the constructor")
        return self.opened

    @property
    def model_name(self) -> str:
        """The members' names, joined by `+`."""
        return "+".join(self.ensemble.member_names)

    def _for_call(self, stop: list[str] | None, options: Mapping[str, Any]) -> Self:
        """This model with the options of one call as its own: so they are in its identity too.

        Args:
            stop: The call's own stop strings; None leaves the constructor's, an empty list asks for none.
            options: The call's own options. A `model` among them is loaded at its first use, unless it is this one's.

        Raises:
            ConfigError: An option that does not exist, that is out of range, or that contradicts another.
            GrammarError: A structure that cannot be followed, beside a `model`; otherwise the ensemble raises it.
            DeepenError: Whatever keeps a `model` from loading.
        """
        nearer = read_call(options, owner=type(self).__name__)
        if stop is not None:
            nearer["stop"] = stop
        changes = put_nearer({name: getattr(self, name) for name in OPTION_NAMES}, nearer)
        if "model" in changes and without_paths(changes["model"]) == without_paths(self.model):
            del changes["model"]  # what is open already, with the weights and the main model that it was given
        if "model" in changes and self.opened is not None:
            # Options that cannot be used are refused before models are loaded for them.
            check_structure(make_params({name: changes.get(name, getattr(self, name)) for name in OPTION_NAMES}))
            list_options = self.member_options if isinstance(changes["model"], (list, tuple)) else None
            source = EnsembleSource(changes["model"], None, None, self.fusion, self.max_batch_size, list_options)
            changes["opened"] = self.opened.other(source)
        return self.model_copy(update=changes) if changes else self

    async def _afor_call(self, stop: list[str] | None, options: Mapping[str, Any]) -> Self:
        """`_for_call` without blocking the event loop while a `model` of the call is loaded."""
        if options.get("model") is None:
            return self._for_call(stop, options)
        return await asyncio.to_thread(self._for_call, stop, options)

    def _params(self, stop: list[str] | None, options: Mapping[str, Any]) -> SamplingParams:
        """The engine's parameters for one call. Takes and raises what `_for_call` does."""
        call = self._for_call(stop, options)
        return make_params({name: getattr(call, name) for name in OPTION_NAMES})

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        """Everything that changes an answer. LangChain's caches key on it.

        The options are nested because LangChain writes a call's own `stop` over a key of that name.
        """
        return {
            "model_name": self.model_name,
            "ensemble": self.ensemble.identity,
            "options": self._identify_options(),
        }

    def _identify_options(self) -> dict[str, Any]:
        """The options in force as JSON values, but for how long to wait."""
        params = self._params(None, {})
        try:
            return params.model_dump(mode="json")
        except PydanticSerializationError:
            check_structure(params)  # which says what in it is no JSON
            raise

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        """What traces say about a call: the options in force. It is asked first, and refuses what is no `stop`."""
        named = ("temperature", "max_tokens", "max_new_tokens")
        params = self._params(None, {name: kwargs[name] for name in named if name in kwargs})
        traced = super()._get_ls_params(stop=stop, **kwargs)
        traced["ls_provider"] = "deepen"
        if not isinstance(kwargs.get("model"), str):
            traced["ls_model_name"] = self.model_name
        traced["ls_temperature"] = params.temperature
        traced["ls_max_tokens"] = params.max_new_tokens
        if in_force := params.stop if stop is None else make_params({"stop": stop}).stop:
            traced["ls_stop"] = list(in_force)
        return traced

    def get_token_ids(self, text: str) -> list[int]:
        """The ids of the text's tokens in the main model's vocabulary, without special tokens."""
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids(text)
        return self.ensemble.encode(text)

    def get_num_tokens(self, text: str) -> int:
        """What a prompt takes out of `ensemble.context_length`, in the member for which it takes most.

        A prompt that takes less fits into every member's context; the main model alone may count fewer.
        """
        if self.custom_get_token_ids is not None:
            return super().get_num_tokens(text)
        return self._open.meter.count_prompt(text)

    def _side_by_side(
        self, inputs: Sequence[Any], config: RunnableConfig | list[RunnableConfig] | None
    ) -> list[RunnableConfig]:
        """Configurations for inputs that are runs of their own: as many at a time as the engine takes.

        A thread pool of LangChain's default size would hold back what the engine could batch.
        """
        configs = get_config_list(config, len(inputs))
        if configs and configs[0].get("max_concurrency") is None:
            limit = min(len(inputs), self.ensemble.config.max_batch_size)
            configs = [{**one, "max_concurrency": limit} for one in configs]
        return configs
