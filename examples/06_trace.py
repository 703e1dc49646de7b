"""See who decided each token: what every member would have said, and what the ensemble made of it.

Models, if any are named, take the place of the bundled ones.
"""

import sys

from deepen_llm import Ensemble, SamplingParams


def main(models: list[str]) -> None:
    with Ensemble.from_pretrained(models) if models else Ensemble.starter() as ensemble:
        prompt = "Question: What is the capital of Kenya?\nAnswer:"
        generation = ensemble.generate(prompt, SamplingParams(max_new_tokens=12, trace=True))
        for step in generation.trace or ():
            views = "  ".join(f"{view.member}: {view.top[0].text!r} {view.top[0].prob:.2f}" for view in step.members)
            changed = f"  <- changed by {', '.join(step.changed_by)}" if step.changed_by else ""
            print(f"{step.text!r:>14} {step.fused[0].prob:.2f}   {views}{changed}")


if __name__ == "__main__":
    main(sys.argv[1:])
