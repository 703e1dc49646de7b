"""The command line over an ensemble of scripted members, run in this process."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from deepen_llm.cli.app import app
from deepen_llm.frontends.source import EnsembleSource


@pytest.fixture
def deepen():
    """Run `deepen` with these arguments; the result has `exit_code`, `stdout` and `stderr`."""
    runner = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})
    return lambda *arguments, **options: runner.invoke(app, [str(a) for a in arguments], **options)


@pytest.fixture
def use_ensemble(monkeypatch):
    """Make every command open this ensemble, and return the list of what the user had asked for."""
    asked = []

    def use(ensemble):
        def open_it(source):
            asked.append(source)
            return ensemble

        monkeypatch.setattr(EnsembleSource, "open", open_it)
        return asked

    return use
