"""docs/configuration.md is what the settings say."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from deepen_llm.config import FusionConfig

DOCS = Path(__file__).parents[1] / "docs"


def load_generator():
    spec = importlib.util.spec_from_file_location("generate_configuration", DOCS / "generate_configuration.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_current():
    assert load_generator().render() == (DOCS / "configuration.md").read_text(encoding="utf-8"), (
        "run: python docs/generate_configuration.py"
    )


def test_every_method_and_each_of_its_settings_is_on_the_page():
    page = load_generator().render()
    for method in FusionConfig.variants:
        own = FusionConfig.variant(method).model_fields.keys() - FusionConfig.model_fields.keys()
        part = page.split(f'### With `method="{method}"`')[1].split("\n#")[0]
        assert own and all(f"| `{name}` |" in part for name in own)
