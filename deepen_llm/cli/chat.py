"""`deepen chat`: a conversation."""

from __future__ import annotations

from typing import Annotated

import typer

from deepen_llm.cli.console import open_ensemble, say
from deepen_llm.cli.conversation import COMMANDS, Conversation
from deepen_llm.cli.parameters import ENSEMBLE, ONE_ANSWER, take_options
from deepen_llm.config import SamplingParams
from deepen_llm.errors import PromptError
from deepen_llm.frontends.source import EnsembleSource


@take_options(source=ENSEMBLE, params=ONE_ANSWER)
def chat(
    *,
    source: EnsembleSource,
    params: SamplingParams,
    system: Annotated[str | None, typer.Option("--system", "-s", help="A system message to begin with.")] = None,
) -> None:
    """Talk to the ensemble; each member reads the conversation in its own chat template.

    `/help` shows what can be typed beside messages: `/reset` forgets the conversation, `/system TEXT` begins anew,
    `/exit` or Ctrl-D leaves. Ctrl-C stops the answer and not the program. A line that ends with a backslash goes on in
    the next one, and three double quotes begin and end a message of several lines.

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
