"""The application: its commands, and what becomes of an error."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, final

import typer
from typer.core import TyperGroup

from deepen_llm import __version__
from deepen_llm.cli.bench import bench
from deepen_llm.cli.calibrate import calibrate
from deepen_llm.cli.chat import chat
from deepen_llm.cli.console import complain, out, set_up_logging, write_what_no_terminal_shows
from deepen_llm.cli.demo import demo
from deepen_llm.cli.evaluate import evaluate
from deepen_llm.cli.explain import explain
from deepen_llm.cli.generate import generate
from deepen_llm.cli.inspect import inspect
from deepen_llm.cli.serve import serve
from deepen_llm.errors import shorten
from deepen_llm.garbage import uncollected

UsageError: Any = typer.BadParameter.__base__
"""Typer's complaint about what was typed, which it shows with the usage; it has no public name."""
OF_TYPER = (UsageError, typer.Exit, typer.Abort, BrokenPipeError)
"""Of these typer knows best what to do: wrong usage, the end, Ctrl-C, a reader that has seen enough (`head`)."""


@final
class Commands(TyperGroup):
    """The group of commands. Whatever fails is one line and exit code 1, its traceback kept for `--debug`."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            with _short_complaints():
                return super().invoke(ctx)
        except Exception as error:
            if ctx.params.get("debug") or isinstance(error, OF_TYPER):
                raise
            complain(error)
            raise typer.Exit(1) from None

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """Read the options before the command."""
        with _short_complaints():
            return super().make_context(*arguments, **options)


@contextmanager
def _short_complaints() -> Iterator[None]:
    """Shorten what typer says about what was typed, which may be of any length."""
    try:
        yield
    except UsageError as error:
        error.message = shorten(error.message or "")
        raise


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
app.command()(serve)
app.add_typer(bench)


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 an error, 2 wrong usage, 130 interrupted."""
    uncollected.keep_all()
    write_what_no_terminal_shows()
    try:
        app(prog_name="deepen")
    except KeyboardInterrupt:  # while typer was ending
        sys.exit(130)
    finally:
        # Nothing is left to stop: what the interpreter does on its way out would show where it was.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        gc.freeze()  # nor is a second to be spent on looking for garbage
