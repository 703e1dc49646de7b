"""A conversation: the messages so far, and the loop that adds to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import typer

from deepen_llm.cli.console import complain, say
from deepen_llm.cli.interrupts import Interrupts
from deepen_llm.cli.typed_message import read_message, use_line_editing
from deepen_llm.config import SamplingParams
from deepen_llm.errors import ContextLengthError, DeepenError

if TYPE_CHECKING:
    from deepen_llm.ensemble import Ensemble

COMMANDS = "/help, /reset, /system, /exit; Ctrl-C stops an answer"
HELP = '''\
/help          shows this
/reset         forgets the conversation, all but the system message
/system TEXT   begins anew with this system message; without a text, with none
/exit          leaves, as /quit and Ctrl-D do
Ctrl-C         stops an answer, or drops what is typed
A line that ends with \\ goes on in the next one; """ begins and ends a message of several lines.'''


@final
class Conversation:
    """Messages, the user's and the ensemble's."""

    def __init__(self, ensemble: Ensemble, params: SamplingParams, system: str | None = None) -> None:
        self._ensemble = ensemble
        self._params = params
        self._interrupts = Interrupts()
        self._begin(system)

    def run(self) -> None:
        """Read and answer until the user leaves.

        Raises:
            PromptError: The standard input is no text.
        """
        use_line_editing()
        with self._interrupts:
            while self._take_turn(self._read()):
                pass

    def _begin(self, system: str | None) -> None:
        self._opening = [{"role": "system", "content": system}] if system else []
        self.messages = list(self._opening)

    def _read(self) -> str | None:
        """The next message; "" after Ctrl-C, None at the end of the input."""
        typed: list[str | None] = []
        if not self._interrupts.run(lambda: typed.append(read_message())):
            typed = [""]
        elif typed[0] is not None:
            return typed[0]
        typer.echo()  # neither Ctrl-C nor Ctrl-D ends the line that it was typed on
        return typed[0]

    def _take_turn(self, message: str | None) -> bool:
        """Obey a command or answer a message. False where the user leaves."""
        if message is None or message in ("/quit", "/exit"):
            return False
        command, _, text = message.partition(" ")
        if command == "/reset" and not text:
            self.messages = list(self._opening)
            say("forgotten", style="dim")
        elif command == "/system":
            self._begin(text.strip())
            say("begun anew", style="dim")
        elif command == "/help" and not text:
            say(HELP, style="dim")
        elif command.startswith("/") and not text:
            say(f"there is no command {command}: {COMMANDS}", style="dim")
        elif message:
            self._exchange(message)
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
        pieces: list[str] = []

        def stream() -> None:
            with self._ensemble.stream_chat(messages, self._params) as chunks:
                for chunk in chunks:
                    pieces.append(chunk.text)
                    typer.echo(chunk.text, nl=False)

        try:
            if not self._interrupts.run(stream):
                typer.echo(" [stopped]", nl=False)
        finally:
            typer.echo()  # also an error begins a line of its own
        return "".join(pieces)
