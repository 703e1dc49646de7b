"""Each distribution builds a wheel that holds what it needs and imports without the sources beside it.

Building asks pip for the build backend, so that these tests are slow ones: `pytest -m slow tests/test_wheels.py`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DISTRIBUTIONS = {
    "deepen_llm": (ROOT, "deepen_llm", ["deepen_llm/py.typed", "deepen_llm/explain/page.css"]),
    "langchain_deepen": (ROOT / "integrations/langchain-deepen", "langchain_deepen", ["langchain_deepen/py.typed"]),
    "llama_index_llms_deepen": (
        ROOT / "integrations/llama-index-llms-deepen",
        "llama_index.llms.deepen",
        ["llama_index/llms/deepen/py.typed"],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_wheel_is_built_that_imports_by_itself(name, tmp_path):
    folder, module, needed = DISTRIBUTIONS[name]
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, folder]
    subprocess.run(build, check=True)
    (wheel,) = tmp_path.glob(f"{name}-*.whl")
    unpacked = tmp_path / "unpacked"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(unpacked)
    assert set(needed) <= set(names)
    assert not [one for one in names if "/tests/" in one or one.startswith("tests/") or one.endswith(".pyc")]
    # The namespaces are LlamaIndex's: a file there would hide its other packages.
    assert not {"llama_index/__init__.py", "llama_index/llms/__init__.py"} & set(names)
    code = f"import {module} as it; print(it.__file__)"
    env = {**os.environ, "PYTHONPATH": str(unpacked)}
    found = subprocess.run([sys.executable, "-c", code], env=env, cwd=tmp_path, check=True, capture_output=True)
    assert Path(found.stdout.decode().strip()).is_relative_to(unpacked)


@pytest.mark.slow
def test_the_wheel_of_the_core_brings_the_bundled_models(tmp_path):
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, ROOT]
    subprocess.run(build, check=True)
    (wheel,) = tmp_path.glob("deepen_llm-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        models = {name.split("/")[3] for name in archive.namelist() if name.endswith("/model.safetensors")}
        assert not [name for name in archive.namelist() if name.startswith("recipe/")]
    assert models == {"llama", "neox", "qwen2"}
