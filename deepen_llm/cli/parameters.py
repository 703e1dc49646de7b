"""Options that several commands share, grouped: a command takes what a group of options makes, not the options."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from deepen_llm.config import EnsembleConfig, SamplingParams, WeightingConfig
from deepen_llm.errors import ConfigError
from deepen_llm.frontends.source import EnsembleSource
from deepen_llm.text_file import MAX_SETTINGS_BYTES, check_writable, read_text

Command = Callable[..., None]


@dataclass(frozen=True)
class OptionGroup:
    """Options, and the value that a command receives in their place."""

    options: tuple[inspect.Parameter, ...]
    build: Callable[[Mapping[str, Any]], Any]


def take_options(**groups: OptionGroup) -> Callable[[Command], Command]:
    """Replace each parameter of a command that is named here by the options of its group."""

    def decorate(command: Command) -> Command:
        own = [p for name, p in inspect.signature(command, eval_str=True).parameters.items() if name not in groups]
        options = [option for group in groups.values() for option in group.options]

        @functools.wraps(command)
        def run(**values: Any) -> None:
            built = {
                name: group.build({option.name: values.pop(option.name) for option in group.options})
                for name, group in groups.items()
            }
            command(**values, **built)

        # Typer reads the signature; the wrapped command's annotations would say otherwise.
        run.__signature__ = inspect.Signature([*own, *options])  # type: ignore[attr-defined]
        run.__annotations__ = {}
        return run

    return decorate


def make_option(name: str, kind: Any, default: Any, *flags: str, **details: Any) -> inspect.Parameter:
    """One option as a parameter of a signature."""
    annotation = Annotated[kind, typer.Option(*flags, **details)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


SHORT_FLAGS = {"max_new_tokens": "-n", "temperature": "-t"}
PANEL = "Sampling"
KINDS: dict[str, Any] = {
    "stop": list[str],
    "stop_token_ids": list[int],
    "logit_bias": str | None,
    "json_schema": str | None,
    "grammar": Path | None,
}
"""How the command line takes what has another type in `SamplingParams`."""
MANY = ("stop", "stop_token_ids")
HELP = {
    "logit_bias": "Added to the log-probabilities of single tokens, as JSON or a file of it: an id of the main model "
    """or a text that is exactly one of its tokens, with a number from -100 to 100: '{" Paris": 5, "13": -100}'.""",
    "json_schema": "The answer is JSON of this schema: a file, or the schema itself. It always parses.",
    "grammar": "The answer is of the grammar in this file, in the Lark-like notation of llguidance.",
}


def _sampling_option(name: str) -> inspect.Parameter:
    """The option for one field of `SamplingParams`, with the field's own default and explanation."""
    field = SamplingParams.model_fields[name]
    kind: Any = KINDS.get(name, field.annotation)
    default = list(field.default) if name in MANY else field.default
    flags = [f"--{name.replace('_', '-')}", *([SHORT_FLAGS[name]] if name in SHORT_FLAGS else [])]
    many = " May be given more than once." if name in MANY else ""
    text = HELP.get(name, f"{field.description}{many}")
    return make_option(name, kind, default, *flags, help=text, rich_help_panel=PANEL, show_default=default is not None)


def _build_params(values: Mapping[str, Any]) -> SamplingParams:
    schema, grammar, bias = values.get("json_schema"), values.get("grammar"), values.get("logit_bias")
    given = {
        **values,
        "logit_bias": None if bias is None else _read_object(bias, "--logit-bias"),
        "json_schema": None if schema is None else read_schema(schema),
        "grammar": None if grammar is None else _read_file(grammar, "--grammar"),
    }
    try:
        return SamplingParams(**given)
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from error


def read_schema(given: str) -> dict[str, Any]:
    """A JSON schema from itself or from a file."""
    return _read_object(given, "--json-schema")


def _read_object(given: str, flag: str) -> dict[str, Any]:
    """A JSON object from itself or from a file."""
    text = given if given.lstrip().startswith("{") else _read_file(Path(given), flag)
    try:
        read = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"{flag} must be JSON, or a file of JSON: {error}") from error
    if not isinstance(read, dict):
        raise typer.BadParameter(f"{flag} must be a JSON object; got {text.strip()[:40]!r}")
    return read


def _read_file(path: Path, flag: str) -> str:
    try:
        return read_text(path, flag, max_bytes=MAX_SETTINGS_BYTES)
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from error


ELSEWHERE = ("prior",)
"""What a command says otherwise: the weights of its requests are those of its ensemble, `--weight`."""
SAMPLING = OptionGroup(
    tuple(_sampling_option(name) for name in SamplingParams.model_fields if name not in ELSEWHERE), _build_params
)
"""How to decode: every field of `SamplingParams`."""
ONE_ANSWER = OptionGroup(
    tuple(option for option in SAMPLING.options if option.name not in ("n", "trace", "logprobs")), _build_params
)
"""The same for a command that shows one answer in its own way."""


def _build_source(values: Mapping[str, Any]) -> EnsembleSource:
    if values["model"] and values["config"]:
        raise typer.BadParameter("give either --model (once per member) or --config, not both")
    if not values["model"] and (values["dtype"] or values["device"]):
        raise typer.BadParameter("--dtype and --device go with --model; with --config, write them into the file")
    if values["trust_remote_code"] and not (values["model"] or values["config"]):
        raise typer.BadParameter("--trust-remote-code goes with --model or --config: the bundled models have no code")
    source = EnsembleSource(
        model=_load(values) if values["config"] else values["model"] or "starter",
        weights=_read_weights(values["weight"]),
        main=int(values["main"]) if (values["main"] or "").isdecimal() else values["main"],
        member_options={name: values[name] for name in OF_MEMBERS if values[name]} or None if values["model"] else None,
    )
    source.check()
    return source


def _load(values: Mapping[str, Any]) -> EnsembleConfig:
    return EnsembleConfig.load(values["config"], trust_remote_code=values["trust_remote_code"])


def _read_weights(given: list[str]) -> tuple[float, ...] | str | None:
    if len(given) == 1 and given[0] in WeightingConfig.variants:
        return given[0]
    try:
        return tuple(map(float, given)) or None
    except ValueError as error:
        words = " or ".join(map(repr, WeightingConfig.variants))
        raise typer.BadParameter(f"--weight is a number, once per member, or once {words}; got {given}") from error


MODEL_HELP = (
    "A folder, a name on the Hugging Face hub, a GGUF file or the address of a server; once per member. None: the "
    "bundled models."
)
WEIGHT_HELP = (
    "A member's weight; once per member, in their order, summing to 1. If not given, they are learnt from each prompt "
    "and answer ('adaptive'). 'prompt': from how well each member predicts the prompt."
)
MAIN_HELP = "The main model's name or position; the first one if not given."
TRUST_HELP = "Run code that comes with the models, or that the --config file names. Only where you have read it."
OF_MEMBERS = ("dtype", "device", "trust_remote_code")
"""Options that become settings of every --model member."""
DTYPE_HELP = "Number format of the --model members, such as bfloat16."

ENSEMBLE = OptionGroup(
    (
        make_option("model", list[str], [], "--model", "-m", help=MODEL_HELP, metavar="MODEL", show_default=False),
        make_option("config", Path | None, None, "--config", "-c", help="An ensemble.yaml in place of --model."),
        make_option("weight", list[str], [], "--weight", "-w", help=WEIGHT_HELP, metavar="WEIGHT", show_default=False),
        make_option("main", str | None, None, "--main", help=MAIN_HELP),
        make_option("dtype", str | None, None, "--dtype", help=DTYPE_HELP),
        make_option("device", str | None, None, "--device", help="Device of the --model members, such as cuda:0."),
        make_option("trust_remote_code", bool, False, "--trust-remote-code", help=TRUST_HELP),
    ),
    _build_source,
)
"""Which models answer, and with which weights."""


def check_new(file: Path, option: str, *, force: bool) -> None:
    """`check_writable`, and that nothing is written over unless that is wanted. Raises the same."""
    check_writable(file, option)
    if file.exists() and not force:
        raise ConfigError(f"{str(file)!r} is there already: give another {option}, or --force to write over it")
