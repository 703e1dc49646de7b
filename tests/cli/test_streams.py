"""What the command line does where its output or input is not a terminal as it should be."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

DEEPEN = (sys.executable, "-m", "deepen_llm")


def run(*arguments, env=None, **options):
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL} | options
    return subprocess.run([*DEEPEN, *arguments], env={**os.environ, **(env or {})}, timeout=60, **options)


def test_a_reader_that_has_seen_enough_is_no_error():
    with subprocess.Popen([*DEEPEN, "generate", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        said = process.stderr.read()
        process.wait(timeout=60)
    assert b"Traceback" not in said and b"Exception ignored" not in said


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no device that is always full")
def test_a_full_disk_behind_the_output_is_one_line():
    with Path("/dev/full").open("wb") as full:
        result = run("generate", "--help", stdout=full)
    assert result.returncode not in (0, -6)
    assert b"No space left on device" in result.stderr
    assert b"Traceback" not in result.stderr


def test_where_no_colour_is_wanted_none_comes():
    result = run("generate", "x", "-c", "none.yaml", env={"NO_COLOR": "1", "FORCE_COLOR": "", "COLUMNS": "80"})
    assert result.returncode == 1
    assert b"\x1b[3" not in result.stdout + result.stderr


def test_at_20_columns_help_and_errors_still_come():
    assert run("generate", "--help", env={"COLUMNS": "20"}).returncode == 0
    assert b"none.yaml" in run("inspect", "-c", "none.yaml", env={"COLUMNS": "20"}).stderr


def test_in_a_locale_without_umlauts_they_are_spelt_out():
    plain = {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "COLUMNS": "200"}
    result = run("inspect", "-c", "grün.yaml", env=plain)
    assert result.returncode == 1
    assert b"gr" in result.stderr and b"Traceback" not in result.stderr


@pytest.mark.skipif(os.name != "posix", reason="closes a file descriptor in the child")
def test_a_closed_input_is_told_where_it_is_needed():
    result = run("generate", "-", "--main", "x", stdin=None, preexec_fn=lambda: os.close(0))
    assert result.returncode == 2
    assert b"standard input" in result.stderr and b"Traceback" not in result.stderr
