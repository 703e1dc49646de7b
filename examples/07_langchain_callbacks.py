"""A LangChain callback that prints tokens as they come, and counts them when the answer is complete."""

from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.outputs import LLMResult

from deepen_llm import Ensemble
from langchain_deepen import DeepenLLM


class TokenPrinter(BaseCallbackHandler):
    """Prints each token, then how the answer ended and what it took."""

    def on_llm_new_token(self, token: Any, **_: Any) -> None:
        print(token, end="", flush=True)

    def on_llm_end(self, response: LLMResult, **_: Any) -> None:
        info = response.generations[0][0].generation_info or {}
        print(f"\n  ({info['finish_reason']}, {info['token_usage']['completion_tokens']} tokens)")


def main() -> None:
    with Ensemble.starter() as ensemble:
        # streaming=True sends tokens to the callbacks although the caller waits for the whole answer.
        llm = DeepenLLM(ensemble=ensemble, streaming=True, max_tokens=32, stop=["\n"], callbacks=[TokenPrinter()])
        llm.invoke("Question: What is the capital of Japan?\nAnswer:")
        llm.invoke("Question: What is 36 plus 47?\nAnswer:")


if __name__ == "__main__":
    main()
