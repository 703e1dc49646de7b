"""A conversation: every member reads the same messages in its own chat template."""

from deepen_llm import Ensemble, SamplingParams


def main() -> None:
    messages: list[dict[str, str]] = []
    with Ensemble.starter() as ensemble:
        for question in ["Hello!", "What is the capital of Japan?"]:
            messages.append({"role": "user", "content": question})
            reply = ensemble.chat(messages, SamplingParams(max_new_tokens=48)).text
            messages.append({"role": "assistant", "content": reply})
            print(f"user: {question}\nassistant: {reply}")


if __name__ == "__main__":
    main()
