"""llama.cpp is found, checked, and its log goes to Python's."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest
import torch

from deepen_llm import MemberConfig
from deepen_llm.errors import MemberError, MissingDependencyError
from deepen_llm.members.gguf import library
from tests.gguf_models import write_llama


@pytest.fixture
def afresh():
    library.load_library.cache_clear()
    yield
    library.load_library.cache_clear()


def test_without_the_package_it_says_what_to_install(tiny, afresh, monkeypatch):
    monkeypatch.setattr(library, "PACKAGE", "no_such_package_at_all")
    with pytest.raises(MissingDependencyError, match=r"not installed: pip install 'deepen-llm\[llama\]'"):
        MemberConfig(model=tiny).load()


def test_a_library_that_is_none_says_what_to_install(tmp_path, afresh, monkeypatch):
    (tmp_path / "broken.so").write_bytes(b"no library")
    monkeypatch.setattr(library, "_find_library", lambda: tmp_path / "broken.so")
    with pytest.raises(MissingDependencyError, match=r"\(broken.so\) cannot be used .*: pip install"):
        library.load_library()


def test_a_version_whose_structures_are_others_is_refused(afresh, monkeypatch):
    monkeypatch.setitem(library.CONTEXT_DEFAULTS, "n_batch", 99)
    with pytest.raises(MissingDependencyError, match=r"ContextParams\.n_batch is 2048 and not 99 by default"):
        library.load_library()


def test_a_processor_without_avx2_is_refused(afresh, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    monkeypatch.setattr(library, "_is_x86", lambda: True)
    with pytest.raises(MissingDependencyError, match="need a processor with AVX2"):
        library.load_library()


def test_its_log_goes_to_logging_and_nowhere_else(tiny, caplog, capfd):
    with caplog.at_level(logging.DEBUG, logger="deepen_llm.members.gguf.library"):
        MemberConfig(model=tiny, context=16, cache_tokens=512).load().close()
    assert any(record.message.startswith("llama.cpp: ") for record in caplog.records)
    assert all(record.levelno < logging.WARNING for record in caplog.records)
    assert capfd.readouterr() == ("", "")


def test_what_it_says_of_an_unknown_architecture_is_told(tmp_path):
    path = write_llama(tmp_path / "new.gguf", architecture="wonder9")
    with pytest.raises(MemberError, match=r"llama.cpp cannot load it \(.*unknown model architecture: 'wonder9'"):
        MemberConfig(model=path).load()


def test_settings_alone_load_no_library():
    code = (
        "import sys; from deepen_llm.config import MemberConfig; MemberConfig(model='x.gguf'); "
        "assert not {'torch', 'xllamacpp', 'deepen_llm.members.gguf.library'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_members_are_loaded_without_transformers(tiny):
    code = (
        "import sys; from deepen_llm import Ensemble; "
        f"Ensemble.from_pretrained([{str(tiny)!r}], context=16, cache_tokens=512).close(); "
        "assert 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
