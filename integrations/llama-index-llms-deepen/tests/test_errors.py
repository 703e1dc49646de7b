"""Errors about prompts are none that LlamaIndex takes for an answer that does not parse."""

from __future__ import annotations

import pytest
from llama_index.core.llms import ChatMessage
from llama_index.core.response_synthesizers import get_response_synthesizer
from llama_index.core.schema import NodeWithScore, TextNode

from deepen_llm.errors import ContextLengthError, DeepenError, PromptError
from llama_index.llms.deepen import ContextOverflowError, PromptRefusedError

TERMS = [
    (ContextLengthError("the prompt has 9 tokens"), ContextOverflowError),
    (PromptError("a lone surrogate"), PromptRefusedError),
]
MESSAGES = [ChatMessage("Capital?")]


async def ask(llm, method, asked):
    """Call a method and read its answer to the end."""
    answer = getattr(llm, method)(asked)
    if method.startswith("a"):
        answer = await answer
    if method.startswith("astream"):
        return [piece async for piece in answer]
    return list(answer) if method.startswith("stream") else answer


@pytest.mark.parametrize(("error", "kind"), TERMS)
@pytest.mark.parametrize("prefix", ["", "a", "stream_", "astream_"])
async def test_every_method_refuses_a_prompt_in_llama_indexes_terms(llm, ensemble, prefix, error, kind):
    for method, asked in (("complete", "Capital?"), ("chat", MESSAGES)):
        ensemble.error = error
        with pytest.raises(kind, match=str(error)) as caught:
            await ask(llm, prefix + method, asked)
        assert isinstance(caught.value, DeepenError)
        assert not isinstance(caught.value, (ValueError, TypeError))
        assert caught.value.__cause__ is error


@pytest.mark.parametrize("mode", ["compact", "refine", "tree_summarize", "simple_summarize", "accumulate"])
@pytest.mark.parametrize(("error", "kind"), TERMS)
def test_no_synthesizer_answers_empty_response_to_a_prompt_that_is_refused(llm, ensemble, mode, error, kind):
    ensemble.context_length, ensemble.error = 4096, error
    synthesizer = get_response_synthesizer(llm, response_mode=mode)
    with pytest.raises(kind, match=str(error)):
        synthesizer.synthesize("Capital?", [NodeWithScore(node=TextNode(text="Paris is it."))])
