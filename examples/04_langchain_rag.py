"""Answer questions about a folder of documents through LangChain: retrieve, then read and answer.

Retrieval is by BM25. `--embeddings FOLDER_OR_NAME` takes a sentence-transformers model instead; it needs
`pip install langchain-huggingface sentence-transformers`. Models, if any are named, take the place of the bundled ones.
"""

import argparse
from pathlib import Path

import bm25s
from langchain_core.documents import Document
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import PromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda, RunnablePassthrough
from langchain_core.vectorstores import InMemoryVectorStore

from langchain_deepen import DeepenLLM

QUESTIONS = ["Who is the mayor of Varwick?", "Which animal does Jortis keep?", "What does Golzo work as?"]
PROMPT = PromptTemplate.from_template("Context:\n{context}\n\nQuestion: {question}\nAnswer:")


def build_retriever(documents: list[Document], embeddings: str | None) -> Runnable[str, list[Document]]:
    if embeddings:
        from langchain_huggingface import HuggingFaceEmbeddings

        store = InMemoryVectorStore.from_documents(documents, HuggingFaceEmbeddings(model_name=embeddings))
        return store.as_retriever(search_kwargs={"k": 1})
    index = bm25s.BM25()
    index.index(bm25s.tokenize([each.page_content for each in documents], show_progress=False), show_progress=False)

    def search(question: str) -> list[Document]:
        words = bm25s.tokenize(question, show_progress=False)
        return [documents[n] for n in index.retrieve(words, k=1, show_progress=False).documents[0]]

    return RunnableLambda(search)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*", help="folders or hub names")
    parser.add_argument("--documents", type=Path, default=Path(__file__).parent / "documents")
    parser.add_argument("--embeddings", help="folder or hub name")
    given = parser.parse_args()

    files = sorted(given.documents.glob("*.txt"))
    retriever = build_retriever([Document(file.read_text("utf-8").strip()) for file in files], given.embeddings)
    context = retriever | (lambda found: "\n\n".join(document.page_content for document in found))
    llm = DeepenLLM(model=given.models or "starter", max_tokens=24, stop=["\n"])
    chain = {"context": context, "question": RunnablePassthrough()} | PROMPT | llm | StrOutputParser()
    for question, answer in zip(QUESTIONS, chain.batch(QUESTIONS), strict=True):
        print(f"{question} {answer.strip()}")
    llm.ensemble.close()


if __name__ == "__main__":
    main()
