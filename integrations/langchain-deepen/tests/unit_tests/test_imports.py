"""The public names, and what importing them costs."""

import subprocess
import sys

import langchain_deepen


def test_the_public_names_are_these():
    assert sorted(langchain_deepen.__all__) == ["ChatDeepen", "DeepenLLM", "__version__"]
    assert all(hasattr(langchain_deepen, name) for name in langchain_deepen.__all__)


def test_importing_loads_neither_torch_nor_transformers():
    program = "import sys, langchain_deepen; print({'torch', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
