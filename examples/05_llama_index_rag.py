"""Ask about a folder of documents: LlamaIndex finds the right one, the ensemble reads it and answers as it comes.

Retrieval is by BM25. `--embeddings FOLDER_OR_NAME` takes a sentence-transformers model instead; it needs
`pip install llama-index-embeddings-huggingface`. Models, if any are named, take the place of the bundled ones.
"""

import argparse
from pathlib import Path

from llama_index.core import VectorStoreIndex
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import TextNode
from llama_index.retrievers.bm25 import BM25Retriever

from llama_index.llms.deepen import DeepenLLM

QUESTIONS = ["Who built the mill of Wexcote?", "What animal does Silnik have?", "Where does Golzo live?"]


def build_retriever(nodes: list[TextNode], embeddings: str | None) -> BaseRetriever:
    if embeddings:
        from llama_index.embeddings.huggingface import HuggingFaceEmbedding

        return VectorStoreIndex(nodes, embed_model=HuggingFaceEmbedding(embeddings)).as_retriever(similarity_top_k=1)
    return BM25Retriever(nodes=nodes, similarity_top_k=1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*", help="folders or hub names")
    parser.add_argument("--documents", type=Path, default=Path(__file__).parent / "documents")
    parser.add_argument("--embeddings", help="folder or hub name")
    given = parser.parse_args()

    files = sorted(given.documents.glob("*.txt"))
    nodes = [TextNode(id_=file.name, text=file.read_text("utf-8").strip()) for file in files]
    # The starter models read LlamaIndex's question-answering prompt as plain text better than as a chat.
    is_chat_model = None if given.models else False
    llm = DeepenLLM(given.models or "starter", is_chat_model=is_chat_model, max_tokens=32, stop=["\n"])
    engine = RetrieverQueryEngine.from_args(build_retriever(nodes, given.embeddings), llm=llm, streaming=True)
    for question in QUESTIONS:
        answer = engine.query(question)
        print(question, end="")
        for piece in answer.response_gen:
            print(piece, end="", flush=True)
        print(f"  [{answer.source_nodes[0].node_id}]")
    llm.close()


if __name__ == "__main__":
    main()
