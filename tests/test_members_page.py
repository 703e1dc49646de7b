"""The code of the page about members runs, with small models in the place of those that it names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from deepen_llm import EnsembleConfig
from deepen_llm.config import MemberConfig
from deepen_llm.starter import model_paths
from tests.encoder_decoders import make_model, make_tokenizer
from tests.gguf_models import write_llama
from tests.members.server.doubles import Deepen, save_tokenizer

PAGE = (Path(__file__).parent.parent / "docs" / "members.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def write_translator(folder):
    tokenizer = make_tokenizer("t5")
    tokenizer.save_pretrained(folder)
    make_model("t5", len(tokenizer)).save_pretrained(folder)
    return folder


@pytest.fixture
def places(tmp_path):
    """What stands where the page has another name."""
    first, second, *_ = map(str, model_paths())
    server = Deepen()
    yield {
        "org/main-model": first,
        "org/some-llm": first,
        "org/t5": write_translator(tmp_path / "t5"),
        "one.gguf": write_llama(tmp_path / "one.gguf"),
        "http://127.0.0.1:8080": server.address,
        'tokenizer="org/other-model"': f'tokenizer="{save_tokenizer(tmp_path)}"',
        "org/other-model": second,
    }
    server.stop()


@pytest.mark.parametrize(
    "code", [pytest.param(code, id=f"block{number}") for number, code in enumerate(blocks("python"))]
)
def test_its_python_runs(code, places):
    for name, place in places.items():
        code = code.replace(name, str(place))
    exec(compile(code, "members.md", "exec", dont_inherit=True), {})


@pytest.mark.parametrize(
    "text", [pytest.param(text, id=f"block{number}") for number, text in enumerate(blocks("yaml"))]
)
def test_its_files_can_be_read(text, monkeypatch):
    monkeypatch.setenv("DEEPEN_GPU_KEY", "a-key")
    assert len(EnsembleConfig(**yaml.safe_load(text)).members) >= 2


def test_every_kind_is_on_the_page():
    kinds = {kind.split("`")[1] for kind in re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE)}
    assert kinds == set(MemberConfig.variants)
