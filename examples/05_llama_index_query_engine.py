"""Ask about a folder of documents: LlamaIndex finds the right one by BM25, the ensemble reads it and answers."""

from pathlib import Path

from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import TextNode
from llama_index.retrievers.bm25 import BM25Retriever

from llama_index.llms.deepen import DeepenLLM

DOCUMENTS = Path(__file__).parent / "documents"
QUESTIONS = ["Who is the mayor of Wexcote?", "What animal does Silnik have?", "Who built the harbour of Frostdale?"]


def main() -> None:
    files = sorted(DOCUMENTS.glob("*.txt"))
    nodes = [TextNode(id_=file.name, text=file.read_text(encoding="utf-8").strip()) for file in files]
    # The starter models read LlamaIndex's question-answering prompt as plain text better than as a chat.
    llm = DeepenLLM(model="starter", is_chat_model=False, max_tokens=32, stop=["\n"])
    retriever = BM25Retriever(nodes=nodes, similarity_top_k=1)
    engine = RetrieverQueryEngine.from_args(retriever, llm=llm, streaming=True)
    for question in QUESTIONS:
        answer = engine.query(question)
        print(question, end="")
        for piece in answer.response_gen:
            print(piece, end="", flush=True)
        print(f"  [{answer.source_nodes[0].node_id}]")
    llm.close()


if __name__ == "__main__":
    main()
