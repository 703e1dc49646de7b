"""`deepen generate`: one answer."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from deepen_llm.cli.console import err, open_ensemble, out
from deepen_llm.cli.parameters import ENSEMBLE, SAMPLING, take_options
from deepen_llm.cli.prompt import read_prompt
from deepen_llm.cli.tables import logprobs_table, trace_table
from deepen_llm.config import SamplingParams
from deepen_llm.errors import ConfigError
from deepen_llm.frontends.source import EnsembleSource

if TYPE_CHECKING:
    from deepen_llm.ensemble import Ensemble
    from deepen_llm.results import Chunk


@take_options(source=ENSEMBLE, params=SAMPLING)
def generate(
    prompt: Annotated[str, typer.Argument(help="The prompt; - reads it from the standard input.", show_default=False)],
    *,
    source: EnsembleSource,
    params: SamplingParams,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole result as JSON.")] = False,
) -> None:
    """Continue a prompt, printing the text as it comes.

    Examples:
    - `deepen generate "Question: What is the capital of Peru?" --stop "?"`
    - `deepen generate "Once upon a time" -m org/main-model -m org/other-model -n 64`
    - `deepen generate - --config ensemble.yaml --temperature 0.7 --seed 1 < prompt.txt`
    - `deepen generate "2 + 2 =" -n 8 --trace`
    - `deepen generate "Question: What is 7 + 8? Answer:" --regex " [0-9]+"`
    - `deepen generate "Anna is 31. As JSON:" --json-schema person.json`

    With `-`, one newline at the end of the input is left out of the prompt. A structured answer that does not fit into
    `--max-new-tokens` ends the command with 1.
    """
    text = read_prompt(prompt)
    with open_ensemble(source) as ensemble:
        if as_json:
            typer.echo(json.dumps(dataclasses.asdict(ensemble.generate(text, params)), ensure_ascii=False, indent=2))
            return
        names = ensemble.member_names
        chunks = _stream(ensemble, text, params)
    if params.logprobs is not None:
        out.print(logprobs_table([logprob for chunk in chunks for logprob in chunk.logprobs or ()]))
    if params.trace:
        report = chunks[-1].fusion
        steps = [step for chunk in chunks for step in chunk.trace or ()]
        out.print(trace_table(steps, names, report.weights if report else ()))
    if params.is_structured:
        _check_whole(chunks[-1])


def _stream(ensemble: Ensemble, text: str, params: SamplingParams) -> list[Chunk]:
    """Print the pieces as they come, exactly as they are."""
    chunks = []
    with ensemble.stream(text, params) as stream:
        for chunk in stream:
            typer.echo(chunk.text, nl=False)
            chunks.append(chunk)
    typer.echo()
    return chunks


def _check_whole(last: Chunk) -> None:
    """Say whether a structured answer was cut, which is a failure, or closed early.

    Raises:
        ConfigError: It was cut.
    """
    if last.finish_reason == "length":
        raise ConfigError("the answer was cut before its structure was whole: raise --max-new-tokens")
    if last.is_shortened:
        err.print(Text("closed before --max-new-tokens ran out; it may have been longer", style="dim"))
