"""An agent that calls two tools: a call always parses, and its arguments are of the tool's schema, from any model.

The starter models have never seen a tool. So with them each turn's tool is given, and each tool knows one name only:
the calls are decoded and run as always, and the last answer is read from the results. A chat-tuned model chooses the
tool and the name, and when to answer: `python examples/08_langchain_agent.py org/main-model org/other-model`.
"""

import sys
from typing import Literal

from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.tools import tool

from langchain_deepen import ChatDeepen

QUESTION = "Which animal does the mayor of Varwick keep?"


@tool
def read_register(town: Literal["Varwick"]) -> str:
    """Find out who is the mayor of a town, and what people there make."""
    return f"The mayor of {town} is Tomvek. People in {town} make silk."


@tool
def read_diary(person: Literal["Tomvek"]) -> str:
    """Find out which animal a person keeps, and what they play."""
    return f"{person} keeps a parrot. {person} plays the harp."


TOOLS = {one.name: one for one in (read_register, read_diary)}


def main(models: list[str]) -> None:
    choices = ["auto"] * 6 if models else [*TOOLS, "none"]
    # To the starter models tool prompts are strange text, of which weights that learn would draw the wrong conclusions.
    settings = {} if models else {"weights": [0.4, 0.3, 0.3]}
    chat = ChatDeepen(model=models or "starter", max_tokens=64, **settings)
    messages: list[BaseMessage] = [HumanMessage(QUESTION)]
    for choice in choices:
        reply = chat.bind_tools(list(TOOLS.values()), tool_choice=choice).invoke(messages)
        messages.append(reply)
        if not reply.tool_calls:
            break
        messages += [TOOLS[call["name"]].invoke(call) for call in reply.tool_calls]
    for message in messages:
        message.pretty_print()
    chat.ensemble.close()


if __name__ == "__main__":
    main(sys.argv[1:])
