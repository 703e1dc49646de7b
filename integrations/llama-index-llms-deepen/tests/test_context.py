"""What LlamaIndex fits by the LLM's own tokenizer and window fits into every member's context."""

from __future__ import annotations

import random
from bisect import bisect
from types import SimpleNamespace

import pytest
from llama_index.core import Settings
from llama_index.core.llms import ChatMessage
from llama_index.core.response_synthesizers import get_response_synthesizer
from llama_index.core.schema import NodeWithScore, TextNode

from deepen_llm import Ensemble
from deepen_llm.requests.messages import encode_chat
from llama_index.llms.deepen import ContextOverflowError, DeepenLLM

MODES = ["compact", "refine", "tree_summarize"]
WORDS = ["Golzo", "is a potter", "été", "中文", "x = 1;", "\n\n", "the capital of", "😀", "Wexcote", "1,234.50"]


def as_read(member, content):
    """What a member reads of a request."""
    vocabulary = member.vocabulary
    return vocabulary.encode_prompt(content) if isinstance(content, str) else encode_chat(vocabulary, content)


def make_text(seed, num_words=1500):
    return " ".join(random.Random(seed).choices(WORDS, k=num_words))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("is_chat_model", [True, False])
@pytest.mark.parametrize("contexts", [(1024, 1024, 1024), (4096, 1400, 8192)])
def test_packed_prompts_fit_every_member(starter, ensemble, monkeypatch, mode, is_chat_model, contexts):
    ensemble.members = [
        SimpleNamespace(vocabulary=member.vocabulary, context_length=context_length, source_reader=None)
        for member, context_length in zip(starter.members, contexts, strict=True)
    ]
    llm = DeepenLLM(ensemble=ensemble, is_chat_model=is_chat_model, max_tokens=16)
    monkeypatch.setattr(Settings, "tokenizer", llm.tokenizer)
    synthesizer = get_response_synthesizer(llm, response_mode=mode)
    found = [NodeWithScore(node=TextNode(text=make_text(0, 1200)))]
    assert str(synthesizer.synthesize("What does Golzo do?", found)) != "Empty Response"
    assert len(ensemble.calls) > 1
    for _, content, params in ensemble.calls:
        for member in ensemble.members:
            assert len(as_read(member, content).ids) + params.max_new_tokens <= member.context_length


@pytest.mark.parametrize("main", ["llama", "neox", "qwen2"])
def test_a_long_document_is_answered_from_whoever_is_the_main_model(main, monkeypatch):
    with Ensemble.starter(main=main) as ensemble:
        llm = DeepenLLM(ensemble=ensemble, max_tokens=2)
        monkeypatch.setattr(Settings, "tokenizer", llm.tokenizer)
        synthesizer = get_response_synthesizer(llm, response_mode="compact")
        answer = synthesizer.synthesize("What is said?", [NodeWithScore(node=TextNode(text=make_text(0, 500)))])
    assert str(answer) != "Empty Response"


def test_what_does_not_fit_is_an_error_and_no_empty_response(starter, monkeypatch):
    llm = DeepenLLM(ensemble=starter, max_tokens=2)
    monkeypatch.setattr(Settings, "tokenizer", lambda text: text[:1])  # whatever it is, it fits
    synthesizer = get_response_synthesizer(llm, response_mode="compact")
    with pytest.raises(ContextOverflowError, match="context"):
        synthesizer.synthesize("What is said?", [NodeWithScore(node=TextNode(text=make_text(0)))])


def test_a_message_that_fits_into_the_window_by_the_tokenizer_is_answered(starter):
    llm = DeepenLLM(ensemble=starter, max_tokens=1)
    text = make_text(1)
    most = bisect(range(len(text)), llm.metadata.context_window, key=lambda end: len(llm.tokenizer(text[:end]))) - 1
    assert len(llm.tokenizer(text[:most])) <= llm.metadata.context_window
    llm.chat([ChatMessage(role="system", content=""), ChatMessage(text[:most])])
