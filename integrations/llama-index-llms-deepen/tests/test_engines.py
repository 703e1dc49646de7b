"""Engines whose steps have to parse: routers, sub-questions and agents, from any model, at any temperature."""

from __future__ import annotations

import json

import pytest
from llama_index.core import Document, VectorStoreIndex
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent, ReActAgent, ToolCallResult
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.query_engine import RouterQueryEngine, SubQuestionQueryEngine
from llama_index.core.question_gen import LLMQuestionGenerator
from llama_index.core.schema import QueryBundle
from llama_index.core.selectors import (
    LLMMultiSelector,
    LLMSingleSelector,
    PydanticMultiSelector,
    PydanticSingleSelector,
)
from llama_index.core.tools import QueryEngineTool, ToolMetadata
from pydantic import BaseModel

from deepen_llm.errors import ConfigError
from llama_index.llms.deepen import DeepenLLM

# LlamaIndex's agents look at deprecated attributes of pydantic when they are made.
AGENTS = pytest.mark.filterwarnings("ignore::DeprecationWarning")
TEXTS = {"lamps": "The lamp of Orin is green.", "boats": "The boat of Orin was built by Tava."}
CHOICES = [ToolMetadata(description=text, name=name) for name, text in TEXTS.items()]


class Sum(BaseModel):
    total: int


@pytest.fixture(params=[True, False], ids=["chat model", "completion model"])
def any_llm(request, ensemble):
    ensemble.context_length = 4096
    return DeepenLLM(ensemble=ensemble, is_chat_model=request.param, stop=["\n"])


def _tools(llm):
    """One query engine for each text."""
    engines = {
        name: VectorStoreIndex.from_documents([Document(text=text)], embed_model=MockEmbedding(8)).as_query_engine(
            llm=llm
        )
        for name, text in TEXTS.items()
    }
    return [QueryEngineTool.from_defaults(engines[name], name=name, description=text) for name, text in TEXTS.items()]


def _call(name, **arguments):
    return json.dumps({"name": name, "arguments": arguments})


SELECTION = _call("SingleSelection", index=2, reason="It is of boats.")
SELECTIONS = _call("MultiSelection", selections=[{"index": 1, "reason": "a"}, {"index": 2, "reason": "b"}])


@pytest.mark.parametrize("answer", [SELECTION, SELECTIONS], ids=["single", "multi"])
async def test_a_router_with_its_own_selector_asks_the_engine_that_was_chosen(any_llm, ensemble, answer):
    is_multi = answer == SELECTIONS
    router = RouterQueryEngine.from_defaults(_tools(any_llm), llm=any_llm, select_multi=is_multi)
    ensemble.answers = [answer]
    assert "Paris is it." in str(router.query("Who built the boat?"))
    grammar = ensemble.calls[0][2].grammar
    assert '"maximum": 2' in grammar and grammar.startswith("start: calls\n")
    asked = str([content for _, content, _ in ensemble.calls[1:]])
    assert (TEXTS["boats"] in asked, TEXTS["lamps"] in asked) == (True, is_multi)
    ensemble.answers = [answer]
    assert "Paris is it." in str(await router.aquery("Who built the boat?"))


@pytest.mark.parametrize("selector_class", [LLMSingleSelector, LLMMultiSelector])
async def test_a_router_with_a_selector_by_text_does_too(any_llm, ensemble, selector_class):
    router = RouterQueryEngine.from_defaults(
        _tools(any_llm), selector=selector_class.from_defaults(any_llm), llm=any_llm
    )
    for query in (router.query, router.aquery):
        ensemble.answers = ['[{"choice": 2, "reason": "It is of boats."}]']
        response = query("Who built the boat?")
        assert "Paris is it." in str(response if query == router.query else await response)
    schema = ensemble.calls[0][2].json_schema
    assert schema["maxItems"] == (1 if selector_class is LLMSingleSelector else 2)
    assert TEXTS["boats"] in str(ensemble.calls[1][1])


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_sub_question_engine_asks_tools_that_there_are(any_llm, ensemble, is_async):
    generator = LLMQuestionGenerator.from_defaults(llm=any_llm)
    engine = SubQuestionQueryEngine.from_defaults(
        _tools(any_llm), llm=any_llm, question_gen=generator, verbose=False, use_async=False
    )
    questions = [{"sub_question": f"What of {name}?", "tool_name": name} for name in TEXTS]
    ensemble.answers = [json.dumps({"items": questions})]
    response = await engine.aquery("Lamps and boats?") if is_async else engine.query("Lamps and boats?")
    assert str(response) == "Paris is it."
    (_, _, first), *sub_questions, (_, last, _) = ensemble.calls
    assert first.json_schema["properties"]["items"]["items"]["properties"]["tool_name"] == {"enum": list(TEXTS)}
    assert sorted(name for name in TEXTS for _, content, _ in sub_questions if f"What of {name}?" in str(content)) == [
        "boats",
        "lamps",
    ]
    assert "Sub question: What of lamps?\\nResponse: Paris is it." in repr(last)


@pytest.mark.parametrize(("temperature", "is_chat_model"), [(0.0, False), (3.0, True)])
def test_selectors_and_questions_of_the_starter_models_are_always_of_what_there_is(starter, temperature, is_chat_model):
    llm = DeepenLLM(ensemble=starter, is_chat_model=is_chat_model, temperature=temperature, seed=5, max_tokens=100)
    selectors = (LLMSingleSelector, LLMMultiSelector, PydanticSingleSelector, PydanticMultiSelector)
    for selector in selectors:
        result = selector.from_defaults(llm=llm).select(CHOICES, "Who built the boat?")
        assert result.selections and {selection.index for selection in result.selections} <= {0, 1}
    tools = [ToolMetadata(description="Lamps.", name="lamps")]
    generator = LLMQuestionGenerator.from_defaults(llm=llm, prompt_template_str="{tools_str}\n{query_str}")
    questions = generator.generate(tools, QueryBundle("Which colour is the lamp?"))
    assert questions and {question.tool_name for question in questions} == {"lamps"}


def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


def _memory():
    """LlamaIndex's default opens a database and leaves it open."""
    return ChatMemoryBuffer.from_defaults(token_limit=1000, tokenizer_fn=list)


@AGENTS
@pytest.mark.parametrize("is_streaming", [True, False])
async def test_a_function_agent_calls_two_tools_and_answers(llm, ensemble, is_streaming):
    agent = FunctionAgent(tools=[add], llm=llm, streaming=is_streaming)
    ensemble.answers = ["\n".join([_call("add", a=1, b=2), _call("add", a=3, b=4)]), "It is 3 and 7."]
    handler = agent.run("What is 1 plus 2, and 3 plus 4?", memory=_memory())
    results = [
        event.tool_output.raw_output async for event in handler.stream_events() if isinstance(event, ToolCallResult)
    ]
    assert sorted(results) == [3, 7]
    assert str(await handler) == "It is 3 and 7."
    told = [message["content"] for message in ensemble.calls[1][1]]
    assert told[-3].count('"name": "add"') == 2
    assert {told[-2], told[-1]} == {"Result of add: 3", "Result of add: 7"}


@AGENTS
async def test_a_workflow_takes_function_agents_and_structured_output(llm, ensemble):
    workflow = AgentWorkflow.from_tools_or_functions([add], llm=llm)
    assert isinstance(next(iter(workflow.agents.values())), FunctionAgent)
    agent = FunctionAgent(tools=[add], llm=llm, output_cls=Sum)
    ensemble.answers = [_call("add", a=1, b=2), "It is 3.", '{"total": 3}']
    response = await agent.run("What is 1 plus 2?", memory=_memory())
    assert response.get_pydantic_model(Sum) == Sum(total=3)


@AGENTS
async def test_a_react_agent_reads_what_the_models_write(any_llm, ensemble):
    any_llm.stop = []
    ensemble.answers = [
        'Thought: I need a tool.\nAction: add\nAction Input: {"a": 1, "b": 2}',
        "Thought: I can answer without using any more tools.\nAnswer: 3",
    ]
    response = await ReActAgent(tools=[add], llm=any_llm).run("What is 1 plus 2?", memory=_memory())
    assert str(response) == "3"


@AGENTS
async def test_an_agent_of_the_starter_models_calls_its_tool(starter):
    agent = FunctionAgent(
        tools=[add],
        llm=DeepenLLM(ensemble=starter, max_tokens=60),
        initial_tool_choice="add",
        allow_parallel_tool_calls=False,
    )
    handler = agent.run("What is 1 plus 2?", memory=_memory(), max_iterations=8)
    results = [event async for event in handler.stream_events() if isinstance(event, ToolCallResult)]
    assert isinstance(results[0].tool_output.raw_output, int)
    assert str(await handler)


def test_a_model_that_cannot_chat_calls_no_functions(ensemble):
    ensemble.has_chat_template, ensemble.context_length = False, 4096
    llm = DeepenLLM(ensemble=ensemble)
    with pytest.raises(ValueError, match="does not support function calling"):
        PydanticSingleSelector.from_defaults(llm=llm)
    router = RouterQueryEngine.from_defaults(_tools(llm), llm=llm)
    ensemble.answers = ['[{"choice": 2, "reason": "It is of boats."}]']
    assert str(router.query("Who built the boat?")) == "Paris is it."
    assert ensemble.calls[0][2].json_schema["maxItems"] == 1


def test_a_selection_that_does_not_fit_names_the_limit(any_llm, ensemble):
    ensemble.answers, ensemble.finish_reason = ['[{"choice": 2, "rea'], "length"
    with pytest.raises(ConfigError, match="max_tokens=256"):
        LLMSingleSelector.from_defaults(any_llm).select(CHOICES, "Who?")
