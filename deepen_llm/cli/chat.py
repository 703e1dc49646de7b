"""`deepen chat`: a conversation."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated, final

import typer

from deepen_llm.cli.console import complain, open_ensemble, say
from deepen_llm.cli.parameters import ENSEMBLE, SAMPLING, take_options
from deepen_llm.config import SamplingParams
from deepen_llm.errors import ContextLengthError, DeepenError, PromptError
from deepen_llm.frontends.source import EnsembleSource

if TYPE_CHECKING:
    from deepen_llm.ensemble import Ensemble

COMMANDS = "/reset forgets the conversation, /quit or Ctrl-D leaves, Ctrl-C stops an answer"


@take_options(source=ENSEMBLE, params=SAMPLING)
def chat(
    *,
    source: EnsembleSource,
    params: SamplingParams,
    system: Annotated[str | None, typer.Option("--system", "-s", help="A system message to begin with.")] = None,
) -> None:
    """Talk to the ensemble; each member reads the conversation in its own chat template.

    Ctrl-C stops the answer and not the program. `/reset` forgets the conversation; `/quit` or Ctrl-D leaves.

    Examples:
    - `deepen chat`
    - `deepen chat -m org/main-model -m org/other-model --system "Answer in one sentence."`
    """
    with open_ensemble(source) as ensemble:
        if not ensemble.has_chat_template:
            raise PromptError(
                "every member must have a chat template; one of these has none: give it one (`chat_template` in an "
                "ensemble.yaml), or use `deepen generate`"
            )
        say(f"{' + '.join(ensemble.member_names)}. {COMMANDS}.", style="dim")
        Conversation(ensemble, params, system).run()


@final
class Conversation:
    """The messages so far, and the loop that adds to them."""

    def __init__(self, ensemble: Ensemble, params: SamplingParams, system: str | None = None) -> None:
        self._ensemble = ensemble
        self._params = params
        self._opening = [{"role": "system", "content": system}] if system else []
        self.messages = list(self._opening)

    def run(self) -> None:
        """Read and answer until the user leaves. Ctrl-C between two answers does nothing."""
        _use_line_editing()
        is_over = False
        while not is_over:
            with contextlib.suppress(KeyboardInterrupt):
                is_over = not self._take_turn(_read_line())

    def _take_turn(self, line: str | None) -> bool:
        """Obey a command or answer a message. False where the user leaves."""
        if line in (None, "/quit", "/exit"):
            return False
        if line == "/reset":
            self.messages = list(self._opening)
            say("forgotten", style="dim")
        elif line.startswith("/") and " " not in line:
            say(f"there is no command {line}: {COMMANDS}", style="dim")
        elif line:
            self._exchange(line)
        return True

    def _exchange(self, text: str) -> None:
        """One message and its answer. A message that cannot be answered is forgotten; what was answered stays."""
        asked = [*self.messages, {"role": "user", "content": text}]
        try:
            answer = self._answer(asked)
        except DeepenError as error:
            complain(error)
            if isinstance(error, ContextLengthError):
                say("/reset makes room", style="dim")
            return
        if answer:
            self.messages = [*asked, {"role": "assistant", "content": answer}]

    def _answer(self, messages: list[dict[str, str]]) -> str:
        """Stream the answer; Ctrl-C ends it and keeps what came."""
        pieces = []
        try:
            with self._ensemble.stream_chat(messages, self._params) as stream:
                for chunk in stream:
                    pieces.append(chunk.text)
                    typer.echo(chunk.text, nl=False)
        except KeyboardInterrupt:
            typer.echo(" [stopped]", nl=False)
        finally:
            typer.echo()  # also an error begins a line of its own
        return "".join(pieces)


def _read_line() -> str | None:
    """The next line without outer spaces; "" after Ctrl-C, None at the end of the input."""
    try:
        return input("> ").strip()
    except KeyboardInterrupt:
        typer.echo()
        return ""
    except EOFError:
        typer.echo()
        return None


def _use_line_editing() -> None:
    """Arrow keys and history in `input`, where the platform has them."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401
