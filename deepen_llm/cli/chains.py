"""The two questions that end the demo: one through a LangChain chain, one through a LlamaIndex query engine."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.text import Text

from deepen_llm.cli.console import err, say

if TYPE_CHECKING:
    from deepen_llm.ensemble import Ensemble

DOCUMENTS = Path(__file__).parent / "documents"
LANGCHAIN_QUESTION = "What is the capital of Japan?"
LLAMA_INDEX_QUESTION = "Who is the mayor of Whitdale?"
INSTALL_LANGCHAIN = "pip install langchain-deepen"
INSTALL_LLAMA_INDEX = "pip install llama-index-llms-deepen llama-index-retrievers-bm25"


def show_langchain(ensemble: Ensemble) -> None:
    """Answer a question token by token through `prompt | llm | StrOutputParser()`."""
    say("\nLangChain: prompt | llm | StrOutputParser()", style="bold")
    try:
        chain = build_chain(ensemble)
    except ImportError as error:
        _note_missing(error, INSTALL_LANGCHAIN)
        return
    _show(LANGCHAIN_QUESTION, chain.stream({"question": LANGCHAIN_QUESTION}))


def show_llama_index(ensemble: Ensemble) -> None:
    """Answer a question about the documents of a folder through a query engine."""
    names = sorted(file.name for file in DOCUMENTS.glob("*.txt"))
    say(f"\nLlamaIndex: a query engine over {len(names)} documents ({', '.join(names)})", style="bold")
    try:
        engine = build_query_engine(ensemble)
    except ImportError as error:
        _note_missing(error, INSTALL_LLAMA_INDEX)
        return
    response = engine.query(LLAMA_INDEX_QUESTION)
    _show(LLAMA_INDEX_QUESTION, response.response_gen)
    say(f"  read in {', '.join(source.node.node_id for source in response.source_nodes)}", style="dim")


def build_chain(ensemble: Ensemble) -> Any:
    """A LangChain chain from a question to text.

    Raises:
        ImportError: langchain-deepen is not installed.
    """
    from langchain_core.output_parsers import StrOutputParser
    from langchain_core.prompts import PromptTemplate

    from langchain_deepen import DeepenLLM

    llm = DeepenLLM(ensemble=ensemble, max_tokens=32, stop=["\n"])
    return PromptTemplate.from_template("Question: {question}\nAnswer:") | llm | StrOutputParser()


def build_query_engine(ensemble: Ensemble) -> Any:
    """A LlamaIndex query engine over the bundled documents, which retrieves by BM25.

    Raises:
        ImportError: llama-index-llms-deepen or llama-index-retrievers-bm25 is not installed.
    """
    from llama_index.core.query_engine import RetrieverQueryEngine
    from llama_index.core.schema import TextNode
    from llama_index.retrievers.bm25 import BM25Retriever  # type: ignore[import-untyped]

    from llama_index.llms.deepen import DeepenLLM

    files = sorted(DOCUMENTS.glob("*.txt"))
    nodes = [TextNode(id_=file.name, text=file.read_text(encoding="utf-8").strip()) for file in files]
    llm = DeepenLLM(ensemble=ensemble, is_chat_model=False, max_tokens=32, stop=["\n"])
    return RetrieverQueryEngine.from_args(BM25Retriever(nodes=nodes, similarity_top_k=1), llm=llm, streaming=True)


def _show(question: str, pieces: Iterable[str]) -> None:
    """The question, then the answer as it comes."""
    typer.echo(f"  {question}", nl=False)
    for piece in pieces:
        typer.echo(piece, nl=False)
    typer.echo()


def _note_missing(error: ImportError, command: str) -> None:
    err.print(Text(f"  skipped, {error.name or 'a package'} is not installed: {command}", "yellow"), soft_wrap=True)
