"""Where the command line writes. Text of users and models is never read as Rich markup."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from deepen_llm.errors import DeepenError, shorten

if TYPE_CHECKING:
    from deepen_llm.ensemble import Ensemble
    from deepen_llm.frontends.source import EnsembleSource

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def say(message: str, style: str = "") -> None:
    """One paragraph on the standard output."""
    out.print(Text(message, style=style))


def complain(error: BaseException) -> None:
    """One red line on the standard error: an error of the library, of the system, or one that should not have been."""
    err.print(Text(f"error: {shorten(' '.join(_describe(error).split()))}", style="red"), soft_wrap=True)


def _describe(error: BaseException) -> str:
    if isinstance(error, DeepenError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror + (f": {error.filename!r}" if error.filename else "")
    if isinstance(error, MemoryError):
        return "the memory of this machine is not enough"
    return f"{type(error).__name__}: {error} (not foreseen: `deepen --debug ...` shows where; please report it)"


def write_what_no_terminal_shows() -> None:
    """Let characters that the encoding of the output lacks, or none has, be spelt out and not be errors."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # not where it is closed, or somebody else's
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def loading(what: str) -> Iterator[None]:
    """A spinner on the standard error while something is loaded, in place of the bars of transformers."""
    with err.status(Text(f"loading {what} ...")):
        silence_transformers()
        yield


def open_ensemble(source: EnsembleSource) -> Ensemble:
    """Load the models, and show that something happens. Raises what `EnsembleSource.open` does."""
    with loading("the bundled models" if source.is_starter else "models"):
        return source.open()


@contextmanager
def counting(total: int, unit: str = "") -> Iterator[Callable[[str, int], None]]:
    """A bar on the standard error: call it with what is being done, and with how many of `total` more are done."""
    columns = (TextColumn("{task.description:<28}", markup=False), BarColumn(), MofNCompleteColumn(), TextColumn(unit))
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=err, transient=True) as progress:
        bar = progress.add_task("", total=total)
        yield lambda label, number: progress.update(bar, description=label, advance=number)


def silence_transformers() -> None:
    """No progress bars and no advice from transformers; errors still come as exceptions.

    Where it is not imported yet, that is left for when it is: not every kind of member needs it.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if "transformers" not in sys.modules:
        return
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]


def go_offline() -> None:
    """Keep the hub's client off the network. Call before transformers is imported."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TRANSFORMERS_OFFLINE"] = "1"


def set_up_logging(*, debug: bool) -> None:
    """Warnings of the library on the standard error.

    A record with a traceback is kept for `--debug`: what it reports reaches the command as an exception as well.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    handler.addFilter(lambda record: debug or record.exc_info is None)
    logger = logging.getLogger("deepen_llm")
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(logging.DEBUG if debug else logging.WARNING)
