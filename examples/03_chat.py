"""A conversation: every member reads the same messages in its own chat template.

Models, if any are named, take the place of the bundled ones.
"""

import sys

from deepen_llm import Ensemble, SamplingParams


def main(models: list[str]) -> None:
    messages: list[dict[str, str]] = []
    with Ensemble.from_pretrained(models) if models else Ensemble.starter() as ensemble:
        for question in ["Hello!", "What is the capital of Japan?"]:
            messages.append({"role": "user", "content": question})
            reply = ensemble.chat(messages, SamplingParams(max_new_tokens=48)).text
            messages.append({"role": "assistant", "content": reply})
            print(f"user: {question}\nassistant: {reply}")


if __name__ == "__main__":
    main(sys.argv[1:])
