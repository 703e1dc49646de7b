"""Answers as objects of a pydantic class: whatever the models say, it is of the schema and parses.

`with_structured_output` tells the models the schema and decodes by it; `SamplingParams(json_schema=...)` only decodes.
The starter models have never seen JSON, and can put little more than numbers into it: of all 118, asked plainly, 97
come right. A chat-tuned model fills in more fields, and from any text; models that are named take the place.
"""

import sys

from pydantic import BaseModel, Field

from deepen_llm import SamplingParams
from langchain_deepen import ChatDeepen

NAMES = ["iron", "silver", "gold"]


class Element(BaseModel):
    """A chemical element."""

    number: int = Field(ge=1, le=118, description="The atomic number.")


def main(models: list[str]) -> None:
    chat = ChatDeepen(model=models or "starter", max_tokens=32)
    questions = [f"What is the atomic number of {name}?" for name in NAMES]
    for name, element in zip(NAMES, chat.with_structured_output(Element).batch(questions), strict=True):
        print(f"{name}: {element!r}")

    prompts = [f"Question: {question}" for question in questions]
    answers = chat.ensemble.generate(prompts, SamplingParams(json_schema=Element, max_new_tokens=32))
    for name, answer in zip(NAMES, answers, strict=True):
        print(f"{name}, without LangChain: {answer.text} -> {Element.model_validate_json(answer.text)!r}")
    chat.ensemble.close()


if __name__ == "__main__":
    main(sys.argv[1:])
