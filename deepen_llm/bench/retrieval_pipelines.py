"""Retrieval by BM25, then reading, through LangChain and through LlamaIndex, as their users would write it.

The frameworks are imported when a pipeline is built, and not before.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, get_args

from deepen_llm.bench.retrieval_documents import Document
from deepen_llm.errors import MissingDependencyError

if TYPE_CHECKING:
    from deepen_llm.ensemble import Ensemble

Framework: TypeAlias = Literal["langchain", "llama-index"]
FRAMEWORKS: tuple[Framework, ...] = get_args(Framework)
PROMPT = "Context:\n{context}\n\nQuestion: {question}\nAnswer:"
CHAT_PROMPT = "{context}\n\n{question}"
MAX_TOKENS = 32
NEEDS: dict[str, tuple[tuple[str, ...], str]] = {
    "langchain": (("langchain_deepen", "bm25s"), "pip install langchain-deepen bm25s"),
    "llama-index": (
        ("llama_index.llms.deepen", "llama_index.retrievers.bm25"),
        "pip install llama-index-llms-deepen llama-index-retrievers-bm25",
    ),
}
"""What each framework's pipeline imports, and what to type where it is not there."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a pipeline does with a question: which documents it found, and the answer in pieces."""

    sources: tuple[str, ...]
    pieces: Iterator[str]


class Pipeline(Protocol):
    """From a question to a reply; retrieval is done when it returns, the answer comes while `pieces` is read."""

    def __call__(self, question: str) -> Reply:
        """Find documents, and begin to answer."""
        ...


def check_framework(framework: Framework) -> None:
    """Find out before minutes of measuring that a framework is not there.

    Raises:
        MissingDependencyError: It says what to install.
    """
    modules, command = NEEDS[framework]
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise MissingDependencyError(
                f"retrieval through {framework} needs {module}, which cannot be imported ({error}): {command}, or "
                "name the other framework alone"
            ) from error


def build_pipeline(
    framework: Framework, ensemble: Ensemble, documents: Sequence[Document], *, num_retrieved: int, in_chat: bool
) -> Pipeline:
    """A pipeline over these documents.

    Args:
        framework: Whose retrieval and prompts.
        ensemble: Who answers, greedily.
        documents: What is searched, each by its whole text.
        num_retrieved: So many documents are read for each question.
        in_chat: Ask in the members' chat templates; else plainly, and an answer is one line.

    Raises:
        MissingDependencyError: The framework, or its BM25 retriever, is not installed.
    """
    check_framework(framework)
    build = {"langchain": _build_chain, "llama-index": _build_query_engine}[framework]
    return build(ensemble, documents, num_retrieved, in_chat)


def _build_chain(ensemble: Ensemble, documents: Sequence[Document], num_retrieved: int, in_chat: bool) -> Pipeline:
    """A retriever over BM25, then `prompt | llm | StrOutputParser()`."""
    from langchain_core.output_parsers import StrOutputParser
    from langchain_core.prompts import ChatPromptTemplate, PromptTemplate
    from langchain_core.runnables import Runnable, RunnableLambda

    from langchain_deepen import ChatDeepen, DeepenLLM

    model: Runnable[Any, Any]
    if in_chat:
        chat = ChatDeepen(ensemble=ensemble, max_tokens=MAX_TOKENS)
        model = ChatPromptTemplate.from_messages([("human", CHAT_PROMPT)]) | chat
    else:
        llm = DeepenLLM(ensemble=ensemble, max_tokens=MAX_TOKENS, stop=["\n"])
        model = PromptTemplate.from_template(PROMPT) | llm
    answer: Runnable[Any, str] = model | StrOutputParser()
    retriever = RunnableLambda(_make_search(documents, num_retrieved))

    def ask(question: str) -> Reply:
        found = retriever.invoke(question)
        context = "\n\n".join(document.text for document in found)
        pieces = answer.stream({"context": context, "question": question})
        return Reply(tuple(document.name for document in found), pieces)

    return ask


def _make_search(documents: Sequence[Document], num_retrieved: int) -> Callable[[str], list[Document]]:
    """The documents that BM25 puts first, best first."""
    import bm25s

    def split(texts: list[str]) -> list[list[str]]:
        words: list[list[str]] = bm25s.tokenize(texts, stopwords="en", return_ids=False, show_progress=False)
        return words

    index = bm25s.BM25()
    index.index(split([document.text for document in documents]), show_progress=False)

    def search(question: str) -> list[Document]:
        best, _ = index.retrieve(split([question]), k=num_retrieved, show_progress=False)
        return [documents[position] for position in best[0]]

    return search


def _build_query_engine(
    ensemble: Ensemble, documents: Sequence[Document], num_retrieved: int, in_chat: bool
) -> Pipeline:
    """A query engine with LlamaIndex's own prompts and BM25 retriever."""
    from llama_index.core.query_engine import RetrieverQueryEngine
    from llama_index.core.schema import TextNode
    from llama_index.retrievers.bm25 import BM25Retriever  # type: ignore[import-untyped]

    from llama_index.llms.deepen import DeepenLLM

    nodes = [TextNode(id_=document.name, text=document.text) for document in documents]
    retriever = BM25Retriever(nodes=nodes, similarity_top_k=num_retrieved)
    stop = [] if in_chat else ["\n"]
    llm = DeepenLLM(ensemble=ensemble, is_chat_model=in_chat, max_tokens=MAX_TOKENS, stop=stop)
    engine = RetrieverQueryEngine.from_args(retriever, llm=llm, streaming=True)

    def ask(question: str) -> Reply:
        response: Any = engine.query(question)
        sources = tuple(source.node.node_id for source in response.source_nodes)
        return Reply(sources, iter(response.response_gen))

    return ask
