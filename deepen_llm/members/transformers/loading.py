"""A model and its tokenizer out of a checkpoint, or an own error that says what is wrong with it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

import torch
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from deepen_llm.errors import DeepenError, MemberError, MissingDependencyError, quote
from deepen_llm.members.transformers.adapter import Adapter
from deepen_llm.members.transformers.architecture import check_architecture, model_class
from deepen_llm.members.transformers.checkpoint import MAX_TOKENIZER_BYTES, TOKENIZER, Checkpoint
from deepen_llm.members.transformers.placement import check_map, check_placement
from deepen_llm.members.transformers.quantization import check_quantization, find_method
from deepen_llm.members.transformers.settings import TransformersConfig
from deepen_llm.members.transformers.shared import SharedWeights, name_weights
from deepen_llm.members.transformers.weights import Weights, check_size, read_weights
from deepen_llm.vocabulary.tokens import check_whole_texts

NEEDED = "needed: a model with config.json, tokenizer.json and *.safetensors"
SHOWN_KEYS = 5
SILENCED_BAR = "Loading weights"

_LOADING = threading.RLock()
"""One load at a time: while it builds a model, transformers replaces functions of torch for the whole process."""


@final
@dataclass(frozen=True, slots=True)
class Loaded:
    """What a checkpoint gives."""

    model: PreTrainedModel
    shared: SharedWeights | None
    """Where the model's tensors come from, as far as no adapter brought them; None where they are its own."""
    tokenizer: Any
    commit: str
    """The commit on the hub, or the revision that was asked for."""
    adapter: str | None
    """The place of the adapter that changes the model."""


def load_model(config: TransformersConfig, name: str) -> Loaded:
    """The model and tokenizer that a member's settings name, weights from safetensors only.

    Raises:
        ConfigError: A device that this machine does not have; a quantization that there is not.
        MemberError: No such model; files that are missing, damaged or do not belong together; an architecture that is
            not of the member's kind.
        MissingDependencyError: An adapter, and peft is not installed, or a quantization without its package.
    """
    check_placement(config, name)
    with own_errors(name, config.model, _list_settings(config)), _LOADING, _without_bars():
        checkpoint = Checkpoint.of(config, name)
        adapter = Adapter.find(checkpoint, config.adapter)
        base = checkpoint if adapter is None else adapter.base
        settings = _read_settings(base, config)
        check_quantization(config.quantization_config, settings, name)
        base.check_weights(reads_pickles=config.model_kwargs.get("use_safetensors") is False)
        tokenizer = _load_tokenizer(checkpoint if adapter is None else adapter.tokenizer, config)
        weights = read_weights(base, config.model_kwargs.get("variant"))
        if weights is not None:
            _check_memory(base, settings, config, weights)
        key = name_weights(base, config, weights, find_method(config.quantization_config, settings))
        shared = None if key is None else SharedWeights.load(key, lambda: _load_weights(base, config))
        model = _load_weights(base, config) if shared is None else shared.copy()
        if adapter is not None and not adapter.is_within:
            adapter.apply(model)
    commit = getattr(model.config, "_commit_hash", None) or config.revision
    return Loaded(model, shared, tokenizer, str(commit or ""), None if adapter is None else adapter.checkpoint.place)


@contextmanager
def own_errors(name: str, place: str, given: str = "") -> Iterator[None]:
    """Whatever fails within is a `MemberError` that names the member, unless it is an own error already.

    `given` are the settings that may be at fault, in words.
    """
    try:
        yield
    except DeepenError:
        raise
    except ImportError as error:
        hint = f": pip install {error.name.partition('.')[0]}" if error.name else ""
        raise MissingDependencyError(
            f"member {quote(name)} cannot be loaded from {quote(place)} without another package: {error}{hint}{given}"
        ) from error
    except BaseException as error:
        # What panics in Rust is no Exception, and no reason to end the program either.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        problem = f"{str(error) or type(error).__name__}{given}"
        raise MemberError(f"member {quote(name)} cannot be loaded from {quote(place)}: {problem} ({NEEDED})") from error


def _read_settings(base: Checkpoint, config: TransformersConfig) -> PreTrainedConfig:
    base.check_config(trust_remote_code=config.trust_remote_code)
    settings: PreTrainedConfig = AutoConfig.from_pretrained(
        base.place, trust_remote_code=config.trust_remote_code, **base.arguments
    )
    check_architecture(settings, config.kind, base.name)
    if not str(weights := getattr(settings, "transformers_weights", None) or ".safetensors").endswith(
        (".safetensors", ".safetensors.index.json")
    ):
        base.refuse(f"config.json names {quote(weights)} as its weights, which are read from *.safetensors only")
    return settings


def _load_tokenizer(place: Checkpoint, config: TransformersConfig) -> Any:
    if config.tokenizer is not None:
        try:
            place = place.at(config.tokenizer)
        except MemberError as error:
            raise MemberError(f"{error}; given tokenizer={quote(config.tokenizer)}") from error
    else:
        place = place.at(place.place)
    written = place.read_json(TOKENIZER, MAX_TOKENIZER_BYTES) or {}
    added = written.get("added_tokens")
    texts = [token.get("content") for token in added if isinstance(token, dict)] if isinstance(added, list) else []
    # Taking in a token of a megabyte takes gigabytes.
    check_whole_texts(place.name, dict(enumerate(map(str, texts))))
    try:
        return AutoTokenizer.from_pretrained(place.place, trust_remote_code=config.trust_remote_code, **place.arguments)
    except Exception as error:
        raise MemberError(
            place.say(
                f"its tokenizer cannot be read ({type(error).__name__}: {error}): fetch its tokenizer.json anew, or "
                "name another one with tokenizer="
            )
        ) from error


def _check_memory(base: Checkpoint, settings: PreTrainedConfig, config: TransformersConfig, weights: Weights) -> None:
    """Refuse what would take far more memory than its weights. A checkpoint's own code is trusted, or is not run."""
    if config.trust_remote_code and getattr(settings, "auto_map", None):
        return
    is_quantized = config.quantization_config is not None or hasattr(settings, "quantization_config")
    check_size(base, settings, weights, is_quantized=is_quantized, model_class=model_class(config.kind))


def _load_weights(base: Checkpoint, config: TransformersConfig) -> PreTrainedModel:
    chosen = {
        "dtype": config.dtype,
        "device_map": config.device_map,
        "attn_implementation": config.attn_implementation,
        "quantization_config": config.quantization_config,
    }
    given = {key: value for key, value in chosen.items() if value is not None}
    # Of what does not fit all the names are wanted, not the first error.
    options = {"use_safetensors": True, "ignore_mismatched_sizes": True, **given, **config.model_kwargs}
    loaded: Any = model_class(config.kind).from_pretrained(
        base.place,
        trust_remote_code=config.trust_remote_code,
        **{**base.arguments, **options, "output_loading_info": True},
    )
    model: PreTrainedModel = loaded[0]
    _check_fit(base, loaded[1], allows_mismatch=bool(config.model_kwargs.get("ignore_mismatched_sizes")))
    check_map(config, base.name, model)
    if config.device is not None:
        model.to(device=torch.device(config.device))  # type: ignore[call-arg]
    return model


def _check_fit(checkpoint: Checkpoint, info: Mapping[str, Any], *, allows_mismatch: bool = False) -> None:
    """Refuse weights that are not those of the model; `info` says what was found.

    Tied weights are not missing. Of weights that the model has no use for, transformers warns in its log.
    """
    if missing := info["missing_keys"]:
        checkpoint.refuse(
            f"its weights lack {len(missing)} of the model's tensors ({_list_keys(missing)}), without which it would "
            "answer at random: fetch the whole model, or the config.json that belongs to these weights"
        )
    if (mismatched := info["mismatched_keys"]) and not allows_mismatch:
        key, held, wanted = min(mismatched)
        checkpoint.refuse(
            f"{len(mismatched)} of its tensors have other shapes than config.json says ({key} is {tuple(held)}, wanted "
            f"{tuple(wanted)}): fetch the config.json that belongs to these weights"
        )


def _list_settings(config: TransformersConfig) -> str:
    """Those that transformers is handed as they are, as far as they were given."""
    names = ("dtype", "device_map", "attn_implementation", "quantization_config", "model_kwargs")
    given = [f"{name}={quote(getattr(config, name))}" for name in names if name in config.model_fields_set]
    return f"; given {', '.join(given)}" if given else ""


def _list_keys(keys: Iterable[str]) -> str:
    names = sorted(keys)
    return ", ".join(names[:SHOWN_KEYS]) + (", ..." if len(names) > SHOWN_KEYS else "")


@contextmanager
def _without_bars() -> Iterator[None]:
    """Without the bar that transformers draws for each model's weights; other bars, and whether there are any, stay."""
    before = transformers_logging.set_tqdm_hook(None)

    def make_bar(factory: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if kwargs.get("desc") == SILENCED_BAR:
            return transformers_logging.EmptyTqdm(*args)  # type: ignore[no-untyped-call]
        return factory(*args, **kwargs) if before is None else before(factory, args, kwargs)

    transformers_logging.set_tqdm_hook(make_bar)
    try:
        yield
    finally:
        transformers_logging.set_tqdm_hook(before)
