"""Print an answer as it comes, then stop listening: the work behind a stream that is closed ends at once.

Models, if any are named, take the place of the bundled ones.
"""

import sys

from deepen_llm import Ensemble, SamplingParams


def main(models: list[str]) -> None:
    with Ensemble.from_pretrained(models) if models else Ensemble.starter() as ensemble:
        params = SamplingParams(max_new_tokens=48, temperature=0.7, top_p=0.9, seed=7)
        with ensemble.stream("Question: What is 24 plus 57?\nAnswer:", params) as stream:
            for chunk in stream:
                print(chunk.text, end="", flush=True)
        print(f"\n{chunk.finish_reason}: {chunk.usage}")


if __name__ == "__main__":
    main(sys.argv[1:])
