"""`deepen generate`: one answer."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
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
    from deepen_llm.results import Chunk, Generation


@take_options(source=ENSEMBLE, params=SAMPLING)
def generate(
    prompt: Annotated[str, typer.Argument(help="The prompt; - reads it from the standard input.", show_default=False)],
    *,
    source: EnsembleSource,
    params: SamplingParams,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole result as JSON.")] = False,
) -> None:
    """Continue a prompt, printing the text as it comes; several answers (`--n`) one after another.

    Examples:
    - `deepen generate "Question: What is the capital of Peru?" --stop "?"`
    - `deepen generate "Once upon a time" -m org/main-model -m org/other-model -n 64`
    - `deepen generate - --config ensemble.yaml --temperature 0.7 --seed 1 < prompt.txt`
    - `deepen generate "2 + 2 =" -n 8 --trace`
    - `deepen generate "Once upon a time" --n 3 --temperature 0.8`
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
        names, is_for_chat = ensemble.member_names, ensemble.has_chat_template
        answers = _stream(ensemble, text, params) if params.n == 1 else _print_all(ensemble.generate(text, params))
    for answer in answers:
        _show_details(answer, names)
    if is_for_chat and not any(answer.text.strip() for answer in answers):
        err.print(Text("no words came; models made for conversation may want one: try `deepen chat`", style="dim"))
    if params.is_structured:
        for answer in answers:
            _check_whole(answer)


def _stream(ensemble: Ensemble, text: str, params: SamplingParams) -> tuple[Generation]:
    """Print the pieces of the one answer as they come, exactly as they are."""
    chunks = []
    with ensemble.stream(text, params) as stream:
        for chunk in stream:
            typer.echo(chunk.text, nl=False)
            chunks.append(chunk)
    typer.echo()
    return (_join(chunks),)


def _join(chunks: Sequence[Chunk]) -> Generation:
    """The answer that a stream gave."""
    from deepen_llm.results import Generation

    last = chunks[-1]
    if last.finish_reason is None or last.usage is None:
        raise RuntimeError("the last piece of a stream says how it ended")
    return Generation(
        text="".join(chunk.text for chunk in chunks),
        token_ids=tuple(token_id for chunk in chunks for token_id in chunk.token_ids),
        finish_reason=last.finish_reason,
        usage=last.usage,
        logprobs=tuple(logprob for chunk in chunks for logprob in chunk.logprobs or ()),
        trace=tuple(step for chunk in chunks for step in chunk.trace or ()),
        fusion=last.fusion,
        is_shortened=last.is_shortened,
    )


def _print_all(generation: Generation) -> tuple[Generation, ...]:
    """Print several answers with a rule between them."""
    for number, answer in enumerate(generation.answers):
        if number:
            out.rule(style="dim")
        typer.echo(answer.text)
    return generation.answers


def _show_details(answer: Generation, names: Sequence[str]) -> None:
    """The tables that were asked for."""
    if answer.logprobs:
        out.print(logprobs_table(answer.logprobs))
    if answer.trace:
        out.print(trace_table(answer.trace, names, answer.fusion.weights if answer.fusion else ()))


def _check_whole(answer: Generation) -> None:
    """Say whether a structured answer was cut, which is a failure, or closed early.

    Raises:
        ConfigError: It was cut.
    """
    if answer.finish_reason == "length":
        raise ConfigError("the answer was cut before its structure was whole: raise --max-new-tokens")
    if answer.is_shortened:
        err.print(Text("closed before --max-new-tokens ran out; it may have been longer", style="dim"))
