from __future__ import annotations

import subprocess
import sys

import pytest

import deepen_llm
from deepen_llm.errors import MemberError

COMMANDS = ("demo", "generate", "chat", "inspect", "bench", "bench decode")


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_explains_and_gives_examples(deepen, command):
    result = deepen(*command.split(), "--help")
    assert result.exit_code == 0
    assert "Usage: deepen" in result.stdout
    if command not in ("", "bench"):
        assert f"deepen {command}" in result.stdout.split("Examples:")[1]


def test_help_and_every_command_module_load_without_torch_and_transformers():
    code = (
        "import sys\n"
        "from deepen_llm.cli.app import app\n"
        "app(['generate', '--help'], standalone_mode=False)\n"
        "heavy = {'torch', 'transformers', 'langchain_core', 'llama_index', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_python_m_deepen_llm_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "deepen_llm", "--version"], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, f"deepen-llm {deepen_llm.__version__}")


def test_the_command_ends_without_a_search_for_garbage():
    code = (
        "import atexit, gc, sys\n"
        "from deepen_llm.cli.app import main\n"
        "atexit.register(lambda: print(len(gc.get_objects()) < 100))\n"
        "sys.argv = ['deepen', '--version']\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split("\n")[1] == "True"


def test_what_the_command_imports_is_never_searched():
    code = (
        "import gc, sys\n"
        "import deepen_llm.cli.console as console\n"
        "from deepen_llm.cli.app import main\n"
        "from deepen_llm.garbage import uncollected\n"
        "def open_it(source):\n"
        "    with uncollected: import tokenizers, numpy, torch\n"
        "    print(gc.get_freeze_count() > 100_000)\n"
        "    sys.exit(0)\n"
        "import deepen_llm.cli.generate as generate\n"
        "generate.open_ensemble = open_it\n"
        "sys.argv = ['deepen', 'generate', 'x']\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "True"


def test_bars_and_advice_of_transformers_are_off_without_importing_it():
    code = (
        "import sys\n"
        "from deepen_llm.cli.console import silence_transformers\n"
        "silence_transformers()\n"
        "assert 'transformers' not in sys.modules\n"
        "from transformers.utils import logging\n"
        "print(logging.is_progress_bar_enabled(), logging.get_verbosity() == logging.ERROR)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "False True"


def test_an_error_of_the_library_is_one_line_and_exit_code_1(deepen, tmp_path):
    result = deepen("generate", "hello", "--model", tmp_path / "[red]nothing[/red]")
    assert result.exit_code == 1
    assert result.stdout == ""
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith("error: ") and "[red]nothing[/red]" in line
    assert "Traceback" not in result.stderr


def test_debug_lets_the_error_through(deepen, tmp_path):
    result = deepen("--debug", "generate", "hello", "--model", tmp_path / "nothing")
    assert isinstance(result.exception, MemberError)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("generate",), "Missing argument"),
        (("generate", "x", "--max-new-tokens", "0"), "SamplingParams.max_new_tokens"),
        (("generate", "x", "--temperature", "-1"), "SamplingParams.temperature"),
        (("generate", "x", "--stop", ""), "stop strings must not be empty"),
        (("generate", "x", "-m", "a", "-c", "ensemble.yaml"), "either --model"),
        (("generate", "x", "-c", "ensemble.yaml", "--dtype", "float16"), "go with --model"),
        (("chatt",), "No such command"),
        (("demo", "--limit", "0"), "--limit"),
    ],
)
def test_wrong_usage_says_what_is_wrong_with_exit_code_2(deepen, arguments, message):
    result = deepen(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_configuration_that_does_not_exist_is_named(deepen):
    result = deepen("inspect", "--config", "no-such-ensemble.yaml")
    assert result.exit_code == 1
    assert "'no-such-ensemble.yaml'" in result.stderr


@pytest.mark.parametrize(
    "command", [("generate", "x"), ("inspect",), ("chat",), ("bench", "decode"), ("eval", "capitals")]
)
def test_a_file_that_asks_for_foreign_code_needs_the_flag_as_well(
    deepen, use_ensemble, make_ensemble, tmp_path, monkeypatch, command
):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "ensemble.yaml"
    file.write_text("members: [org/a, {model: org/b, trust_remote_code: true}]")
    asked = use_ensemble(make_ensemble(["a story."]))
    refused = deepen(*command, "--config", file)
    assert refused.exit_code == 1
    assert "--trust-remote-code" in refused.stderr
    assert not asked
    if command[0] == "generate":
        assert deepen(*command, "--config", file, "--trust-remote-code").exit_code == 0
        assert asked[0].model.members[1].trust_remote_code


def test_of_models_by_name_the_flag_is_a_setting_and_the_bundled_ones_have_no_code(deepen, use_ensemble, make_ensemble):
    asked = use_ensemble(make_ensemble(["a story."]))
    assert deepen("generate", "x", "-m", "org/a", "-m", "org/b", "--trust-remote-code").exit_code == 0
    assert asked[0].member_options == {"trust_remote_code": True}
    assert deepen("generate", "x", "--trust-remote-code").exit_code == 2
