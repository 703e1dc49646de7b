"""What a stranger may have made gives an own error or a right answer, within bounds of time and memory."""

from __future__ import annotations

import shutil
import sys
from functools import cache

import pytest

from tests.hostile import configurations, folders
from tests.hostile.trials import Trials, find_faults

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is limited and measured as Linux does it")

MEANING = ("change_config", "change_value", "change_tokens", "change_weights: ints", "change_weights: bool")
"""What is damaged here the folder itself says otherwise, so that another answer may be the right one."""


@pytest.fixture(scope="module")
def trials():
    running = Trials()
    yield running
    running.close()


@pytest.fixture(scope="module")
def find_base(tmp_path_factory, trials):
    """Of a kind of model, a sound folder and what a trial of it comes to."""
    root = tmp_path_factory.mktemp("bases")

    @cache
    def find(kind):
        folder = folders.make_base(root / kind, kind)
        return folder, trials.run("folder", folder)

    return find


def try_folders(find_base, trials, root, seeds):
    """What is wrong with the outcome of each damaged folder."""
    faults = []
    for seed in seeds:
        base, good = find_base(folders.KINDS[seed % len(folders.KINDS)])
        assert good["kind"] == "answer"
        what = folders.damage(base, root / "folder", seed)
        outcome = trials.run("folder", root / "folder")
        found = find_faults(outcome, good)
        if (root / "folder" / "ran").exists():
            found.append("foreign code ran")
        if outcome["kind"] == "answer" and outcome["text"] != good["text"] and not what.startswith(MEANING):
            found.append(f"another answer: {outcome['text']!r}")
        faults += [f"{seed}, {what}: {fault}" for fault in found]
        shutil.rmtree(root / "folder")
    return faults


def try_files(trials, root, seeds):
    """What is wrong with the outcome of each damaged configuration."""
    faults, file = [], root / "ensemble.yaml"
    file.write_text(configurations.GOOD)
    good = trials.run("yaml", file)
    assert good["kind"] == "answer", good
    for seed in seeds:
        data, what = configurations.damage(seed)
        file.write_bytes(data)
        faults += [f"{seed}, {what}: {fault}" for fault in find_faults(trials.run("yaml", file), good)]
    return faults


@pytest.mark.lengthy
def test_some_hostile_folders_give_an_own_error_or_a_right_answer(find_base, trials, tmp_path):
    assert not try_folders(find_base, trials, tmp_path, range(0, 48, len(folders.KINDS)))


@pytest.mark.lengthy
def test_some_hostile_configurations_give_an_own_error_or_settings(trials, tmp_path):
    assert not try_files(trials, tmp_path, range(20))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_many_hostile_folders_give_an_own_error_or_a_right_answer(find_base, trials, tmp_path):
    assert not try_folders(find_base, trials, tmp_path, range(600))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_many_hostile_configurations_give_an_own_error_or_settings(trials, tmp_path):
    assert not try_files(trials, tmp_path, range(1500))
