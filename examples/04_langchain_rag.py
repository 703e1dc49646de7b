"""Answer questions about a folder of documents through LangChain: retrieve by BM25, then read and answer."""

from pathlib import Path
from typing import Any

import bm25s
from langchain_core.documents import Document
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import PromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnablePassthrough

from deepen_llm import Ensemble
from langchain_deepen import DeepenLLM

FOLDER = Path(__file__).parent / "documents"
QUESTIONS = ["Who is the mayor of Brimley?", "Which animal does Jortis keep?", "What does Golzo work as?"]
PROMPT = PromptTemplate.from_template("Context:\n{context}\n\nQuestion: {question}\nAnswer:")


class BM25Retriever(BaseRetriever):
    """The documents whose words fit a question best."""

    documents: list[Document]
    index: bm25s.BM25
    num_documents: int = 1

    @classmethod
    def from_folder(cls, folder: Path) -> "BM25Retriever":
        files = sorted(folder.glob("*.txt"))
        documents = [
            Document(file.read_text(encoding="utf-8").strip(), metadata={"source": file.name}) for file in files
        ]
        index = bm25s.BM25()
        index.index(split([document.page_content for document in documents]), show_progress=False)
        return cls(documents=documents, index=index)

    def _get_relevant_documents(self, query: str, **_: Any) -> list[Document]:
        best, _ = self.index.retrieve(split([query]), k=self.num_documents, show_progress=False)
        return [self.documents[n] for n in best[0]]


def split(texts: list[str]) -> list[list[str]]:
    words: list[list[str]] = bm25s.tokenize(texts, stopwords="en", return_ids=False, show_progress=False)
    return words


def join(documents: list[Document]) -> str:
    return "\n\n".join(document.page_content for document in documents)


def main() -> None:
    with Ensemble.starter() as ensemble:
        llm = DeepenLLM(ensemble=ensemble, max_tokens=24, stop=["\n"])
        retriever = BM25Retriever.from_folder(FOLDER)
        chain = {"context": retriever | join, "question": RunnablePassthrough()} | PROMPT | llm | StrOutputParser()
        for question, answer in zip(QUESTIONS, chain.batch(QUESTIONS), strict=True):
            print(f"{question}{answer}")


if __name__ == "__main__":
    main()
