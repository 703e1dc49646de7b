"""Reading a page back: its elements, checked for balance, and its text."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from deepen_llm import SamplingParams
from deepen_llm.explain import explain_answer

VOID = {"meta", "br", "input"}


class Page(HTMLParser):
    """Every element with its attributes, in order, and all text; fails on an element that is not closed."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.texts: dict[str, str] = {}
        self.feed(source)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names))
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if "style" not in self._open:
            self.text += data

    def find(self, class_):
        """The attributes of every element of this class."""
        return [attrs for _, attrs in self.elements if class_ in (attrs.get("class") or "").split()]


@pytest.fixture
def read_page():
    """Parse a page's source."""
    return Page


@pytest.fixture
def explain(make_ensemble):
    """The explanation of a scripted ensemble's answer."""

    def make(texts, prompt, kinds=("bpe", "sentencepiece"), texts_of=None, settings=None, **params):
        ensemble = make_ensemble(texts, kinds=kinds, texts_of=texts_of, **(settings or {}))
        generation = ensemble.generate(prompt, SamplingParams(trace=True, **params))
        return explain_answer(ensemble, prompt, generation.text, generation.trace)

    return make
