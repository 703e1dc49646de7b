"""The application: its commands, and what becomes of an error."""

from __future__ import annotations

from typing import Annotated, Any, final

import typer
from typer.core import TyperGroup

from deepen_llm import __version__
from deepen_llm.cli.bench import bench
from deepen_llm.cli.calibrate import calibrate
from deepen_llm.cli.chat import chat
from deepen_llm.cli.console import complain, out, set_up_logging
from deepen_llm.cli.demo import demo
from deepen_llm.cli.evaluate import evaluate
from deepen_llm.cli.explain import explain
from deepen_llm.cli.generate import generate
from deepen_llm.cli.inspect import inspect
from deepen_llm.errors import DeepenError


@final
class Commands(TyperGroup):
    """The group of commands. An error of the library is one line and exit code 1, its traceback kept for `--debug`."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except DeepenError as error:
            if ctx.params.get("debug"):
                raise
            complain(error)
            raise typer.Exit(1) from None


app = typer.Typer(
    name="deepen",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(is_asked: bool) -> None:
    if is_asked:
        out.print(f"deepen-llm {__version__}")
        raise typer.Exit


VERSION = typer.Option("--version", help="Show the version and leave.", is_eager=True, callback=_show_version)


@app.callback()
def deepen(
    *,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and the library's log.")] = False,
    version: Annotated[bool, VERSION] = False,
) -> None:
    """Two or more language models with different tokenizers answer as one.

    Try `deepen demo` first: it needs no model, no network and three minutes.
    """
    del version
    set_up_logging(debug=debug)


app.command()(demo)
app.command()(generate)
app.command()(chat)
app.command()(explain)
app.command()(inspect)
app.command("eval")(evaluate)
app.command()(calibrate)
app.add_typer(bench)


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 an error, 2 wrong usage, 130 interrupted."""
    app(prog_name="deepen")
