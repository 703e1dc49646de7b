"""The clients on the page about serving get their answers from a server."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "serving.md"
BLOCKS = re.findall(r"^```py\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def module_of(code):
    return re.match(r"(?:from|import) ([\w.]+)", code)[1]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("code", [pytest.param(code, id=module_of(code)) for code in BLOCKS])
def test_a_client_of_the_page_is_answered(code, server, capsys):
    module = module_of(code)
    if module != "openai":
        pytest.importorskip(module)
    importlib.import_module(module)
    exec(compile(code.replace("http://127.0.0.1:8000", server.address), "page", "exec", dont_inherit=True), {})
    assert capsys.readouterr().out  # what small models draw may be anything


def test_the_page_names_every_option_of_the_command():
    from deepen_llm.server.settings import ServerSettings

    page = PAGE.read_text("utf-8")
    flags = {f"--{name.removesuffix('_s').replace('_', '-')}" for name in ServerSettings.model_fields}
    flags -= {"--api-keys", "--cors-origins", "--allowed-hosts"}
    assert not [flag for flag in flags if flag not in page]
