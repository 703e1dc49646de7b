"""Answer several questions at once: they share every forward pass.

Models, if any are named, take the place of the bundled ones.
"""

import sys

from deepen_llm import Ensemble, SamplingParams

QUESTIONS = [
    "Question: What is the capital of France?\nAnswer:",
    "Question: What is the chemical symbol of gold?\nAnswer:",
]


def main(models: list[str]) -> None:
    with Ensemble.from_pretrained(models) if models else Ensemble.starter() as ensemble:
        params = SamplingParams(max_new_tokens=32, stop=["\n"])
        for question, generation in zip(QUESTIONS, ensemble.generate(QUESTIONS, params), strict=True):
            print(f"{question}{generation.text}")
            print(f"  ({generation.finish_reason}, {generation.usage.completion_tokens} tokens)")


if __name__ == "__main__":
    main(sys.argv[1:])
