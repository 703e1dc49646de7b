"""`deepen explain`: one answer, and a page that shows who decided each of its tokens."""

from __future__ import annotations

import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from deepen_llm.cli.console import err, open_ensemble
from deepen_llm.cli.parameters import ENSEMBLE, ONE_ANSWER, take_options
from deepen_llm.cli.prompt import read_prompt
from deepen_llm.config import SamplingParams
from deepen_llm.frontends.source import EnsembleSource
from deepen_llm.text_file import check_writable, write_text

if TYPE_CHECKING:
    from deepen_llm.ensemble import Ensemble
    from deepen_llm.explain import Explanation
    from deepen_llm.results import StepTrace

Output = Annotated[Path, typer.Option("--output", "-o", help="The page to write; one that is there is replaced.")]
Chat = Annotated[bool, typer.Option("--chat", help="Ask as a chat message, in each member's own template.")]
System = Annotated[str | None, typer.Option("--system", "-s", help="A system message; with --chat.")]


@take_options(source=ENSEMBLE, params=ONE_ANSWER)
def explain(
    prompt: Annotated[str, typer.Argument(help="The prompt; - reads it from the standard input.", show_default=False)],
    *,
    source: EnsembleSource,
    params: SamplingParams,
    output: Output = Path("explain.html"),
    is_chat: Chat = False,
    system: System = None,
    is_opened: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Answer a prompt and write a page that shows who decided each token.

    One HTML file that needs nothing else: the answer in colours, and on each token every member's best tokens, the
    fused ones, and whether the step was fused.

    Examples:
    - `deepen explain "Question: What is the capital of Peru?"`
    - `deepen explain "Once upon a time" -m org/main-model -m org/other-model -o story.html --open`
    - `deepen explain "Who are you?" --chat --system "Answer in one sentence."`
    """
    if system is not None and not is_chat:
        raise typer.BadParameter("--system goes with --chat: a plain prompt has no system message")
    check_writable(output, "--output")
    text = read_prompt(prompt)
    opening = [] if system is None else [{"role": "system", "content": system}]
    asked = [*opening, {"role": "user", "content": text}] if is_chat else text
    with open_ensemble(source) as ensemble:
        write_page(_explain(ensemble, asked, params.replace(trace=True)), output)
    err.print(Text(f"written to {output}"), soft_wrap=True)
    if is_opened:
        webbrowser.open(output.resolve().as_uri())


def write_page(explanation: Explanation, output: Path) -> None:
    """Write the page of an answer.

    Raises:
        ConfigError: The file cannot be written.
    """
    from deepen_llm.explain import render_page

    write_text(output, render_page(explanation), "--output")


def _explain(ensemble: Ensemble, asked: str | Sequence[dict[str, str]], params: SamplingParams) -> Explanation:
    """The answer, printed as it comes, taken apart."""
    from deepen_llm.explain import explain_answer

    pieces: list[str] = []
    trace: list[StepTrace] = []
    weights: tuple[float, ...] = ()
    stream = ensemble.stream(asked, params) if isinstance(asked, str) else ensemble.stream_chat(asked, params)
    with stream:
        for chunk in stream:
            typer.echo(chunk.text, nl=False)
            pieces.append(chunk.text)
            trace += chunk.trace or ()
            weights = chunk.fusion.weights if chunk.fusion else weights
    typer.echo()
    return explain_answer(ensemble, asked, "".join(pieces), trace, weights=weights)
