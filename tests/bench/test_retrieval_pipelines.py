from __future__ import annotations

import subprocess
import sys

import pytest

from deepen_llm import Ensemble
from deepen_llm.bench.retrieval_documents import Document
from deepen_llm.bench.retrieval_pipelines import FRAMEWORKS, build_pipeline, check_framework
from deepen_llm.errors import MissingDependencyError

pytestmark = pytest.mark.usefixtures("event_loop_of_its_own")

DOCUMENTS = [
    Document("Jortis-1", "Jortis keeps a parrot. The home of Jortis is in Ashwick."),
    Document("Golzo-1", "Golzo lives in the town of Undley. Golzo plays the cello."),
    Document("Brimley-1", "The mayor of Brimley is Linmi. The town of Brimley makes glass."),
]


@pytest.fixture(scope="module")
def ensemble():
    with Ensemble.starter() as ensemble:
        yield ensemble


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_pipeline_finds_the_document_and_reads_the_answer_in_it(ensemble, framework):
    ask = build_pipeline(framework, ensemble, DOCUMENTS, num_retrieved=1, in_chat=False)
    reply = ask("Who is the mayor of Brimley?")
    assert reply.sources == ("Brimley-1",)
    assert "".join(reply.pieces).strip() == "Linmi"


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_as_many_documents_are_read_as_asked_for(ensemble, framework):
    ask = build_pipeline(framework, ensemble, DOCUMENTS, num_retrieved=2, in_chat=False)
    reply = ask("Which animal does Jortis keep?")
    assert len(reply.sources) == 2 and reply.sources[0] == "Jortis-1"
    assert "".join(reply.pieces).strip() == "parrot"


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_in_chat_the_members_templates_are_used_and_an_answer_has_more_than_a_line(ensemble, framework, monkeypatch):
    asked = []
    stream_chat = ensemble.stream_chat
    monkeypatch.setattr(
        ensemble,
        "stream_chat",
        lambda messages, params, **_: asked.append((messages, params)) or stream_chat(messages, params),
    )
    ask = build_pipeline(framework, ensemble, DOCUMENTS, num_retrieved=1, in_chat=True)
    text = "".join(ask("What does Golzo play?").pieces)
    assert text.strip()
    ((messages, params),) = asked
    assert messages[-1]["role"] == "user"
    assert "Golzo plays the cello" in messages[-1]["content"] and "What does Golzo play?" in messages[-1]["content"]
    assert params.stop == ()


@pytest.mark.parametrize(
    ("framework", "module", "command"),
    [
        ("langchain", "langchain_deepen", "pip install langchain-deepen bm25s"),
        ("langchain", "bm25s", "pip install langchain-deepen bm25s"),
        ("llama-index", "llama_index.llms.deepen", "pip install llama-index-llms-deepen"),
        ("llama-index", "llama_index.retrievers.bm25", "llama-index-retrievers-bm25"),
    ],
)
def test_a_framework_that_is_not_there_is_named_with_what_to_type(monkeypatch, framework, module, command):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        MissingDependencyError, match=f"{framework} needs {module}.*{command}.*name the other framework"
    ):
        check_framework(framework)


def test_importing_the_benchmark_imports_no_framework():
    code = (
        "import sys, deepen_llm.bench.retrieval, deepen_llm.cli.bench.retrieval; "
        "print([name for name in sys.modules if name.split('.')[0] in "
        "('langchain_core', 'langchain_deepen', 'llama_index', 'bm25s')])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
