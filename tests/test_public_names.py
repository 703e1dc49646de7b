import subprocess
import sys

import deepen_llm


def test_public_names_are_these_and_all_exist():
    assert all(getattr(deepen_llm, name) is not None for name in deepen_llm.__all__)
    promised = {"Ensemble", "SamplingParams", "EnsembleConfig", "MemberConfig", "FusionConfig", "Generation", "Chunk"}
    assert promised <= set(deepen_llm.__all__)


def test_importing_the_package_does_not_import_torch():
    code = "import sys, deepen_llm; assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(deepen_llm, "NoSuchName")
