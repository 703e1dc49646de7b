"""`deepen serve`: an ensemble behind an address."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from deepen_llm.cli.console import err, open_ensemble, say
from deepen_llm.cli.parameters import ENSEMBLE, OptionGroup, make_option, take_options
from deepen_llm.errors import ConfigError, MissingDependencyError
from deepen_llm.frontends.source import EnsembleSource
from deepen_llm.garbage import uncollected
from deepen_llm.server.settings import ServerSettings
from deepen_llm.text_file import MAX_SETTINGS_BYTES, read_text

KEY_VARIABLE = "DEEPEN_API_KEY"
KEY_HELP = (
    f"A file with an API key a line; one may also be in the environment, as {KEY_VARIABLE}. Never on the command line."
)
SINGULAR = {"cors_origins": "--cors-origin", "allowed_hosts": "--allowed-host"}
"""Settings that may be given more than once."""


def _server_option(name: str) -> Any:
    """The option for one field of `ServerSettings`, with its default and explanation."""
    field = ServerSettings.model_fields[name]
    if name in SINGULAR:
        help_text = f"{field.description} May be given more than once."
        return make_option(name, list[str], [], SINGULAR[name], help=help_text, show_default=False)
    flag = f"--{name.removesuffix('_s').replace('_', '-')}"
    return make_option(name, field.annotation, field.default, flag, help=field.description)


def _build_settings(values: Mapping[str, Any]) -> ServerSettings:
    given = {name: tuple(value) if name in SINGULAR else value for name, value in values.items() if name != "key_file"}
    given["allowed_hosts"] = given["allowed_hosts"] or None
    keys = [os.environ[KEY_VARIABLE]] if os.environ.get(KEY_VARIABLE) else []
    try:
        if values["key_file"] is not None:
            keys += read_text(values["key_file"], "--api-key-file", max_bytes=MAX_SETTINGS_BYTES).split()
            if not keys:
                raise ConfigError(f"--api-key-file must hold a key; {str(values['key_file'])!r} is empty")
        return ServerSettings(**given, api_keys=tuple(keys))
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from error


SERVER = OptionGroup(
    (
        *(_server_option(name) for name in ServerSettings.model_fields if name != "api_keys"),
        make_option("key_file", Path | None, None, "--api-key-file", help=KEY_HELP),
    ),
    _build_settings,
)
"""Where the server listens, and for whom."""


@take_options(source=ENSEMBLE, settings=SERVER)
def serve(*, source: EnsembleSource, settings: ServerSettings) -> None:
    """Answer over HTTP as OpenAI's API does: chats, completions, tools, structured answers, streams.

    The ensemble is the model `deepen`; each member can be asked alone by its own name. Ctrl-C or SIGTERM ends it once
    the answers that run are whole.

    Examples:
    - `deepen serve`
    - `deepen serve -m org/main-model -m org/other-model --port 8001`
    - `deepen serve --config ensemble.yaml --host 0.0.0.0 --api-key-file keys.txt`
    - `deepen serve --config ensemble.yaml --replicas 2`
    - `curl localhost:8000/v1/completions -H "Content-Type: application/json" -d '{"prompt": "2 + 2 ="}'`
    """
    try:
        with uncollected:
            from deepen_llm.server.replicas import serve_replicas
            from deepen_llm.server.running import serve as run
    except ImportError as missing:
        raise MissingDependencyError(
            f"deepen serve needs more: pip install 'deepen-llm[server]' ({missing})"
        ) from missing
    if settings.replicas > 1:
        err.print(f"loading {settings.replicas} replicas ...; Ctrl-C ends the server", style="dim", markup=False)
        serve_replicas(source, settings, on_start=lambda address: say(f"{address}/v1"))
        return
    with open_ensemble(source) as ensemble:
        err.print(f"{' + '.join(ensemble.member_names)}; Ctrl-C ends the server", style="dim", markup=False)
        run(ensemble, settings, on_start=lambda address: say(f"{address}/v1"))
