"""A LangChain callback that draws tokens as they come, each in the colour of the member that decided it.

Models, if any are named, take the place of the bundled ones.
"""

import sys
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from pydantic import TypeAdapter
from rich.console import Console
from rich.text import Text

from deepen_llm import Ensemble
from deepen_llm.explain.deciding import decide
from deepen_llm.results import StepTrace
from langchain_deepen import DeepenLLM

COLOURS = ("dodger_blue1", "dark_orange", "green3", "deep_pink2", "turquoise2")
STEPS = TypeAdapter(list[StepTrace])


class ColourPrinter(BaseCallbackHandler):
    """One member's own choice in its colour; bold where several agree, yellow where none alone would have said it."""

    def __init__(self, ensemble: Ensemble) -> None:
        self.console = Console(highlight=False)
        self.main = ensemble.main_name
        self.vocabularies = {member.name: member.vocabulary for member in ensemble.members}
        self.styles = {(name,): colour for name, colour in zip(self.vocabularies, COLOURS, strict=False)}
        self.console.print(*(Text(name, colour) for (name,), colour in self.styles.items()))

    def on_llm_new_token(self, token: Any, *, chunk: Any = None, **_: Any) -> None:
        steps = STEPS.validate_python((chunk.generation_info or {}).get("trace", []))
        deciders = [decide(step, self.vocabularies, self.main).members for step in steps]
        style = self.styles.get(deciders[-1], "bold" if deciders[-1] else "yellow") if deciders else ""
        self.console.print(Text(token, style), end="")


def main(models: list[str]) -> None:
    llm = DeepenLLM(model=models or "starter", streaming=True, trace=True, max_tokens=64, stop=["\n"])
    printer = ColourPrinter(llm.ensemble)
    for prompt in ("What is the capital of Japan?", "What is the capital of Kenya?", "What is the symbol of zinc?"):
        printer.console.print(prompt, end="")
        # streaming=True sends tokens to the callbacks although the caller waits for the whole answer.
        llm.invoke(f"Question: {prompt}\nAnswer:", config={"callbacks": [printer]})
        printer.console.print()
    llm.ensemble.close()


if __name__ == "__main__":
    main(sys.argv[1:])
