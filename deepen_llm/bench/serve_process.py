"""A server in a process of its own, as the command line starts it."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deepen_llm.config import EnsembleConfig
from deepen_llm.errors import EngineError

END_S = 60.0
"""How long a server may take to end before it is killed."""


@contextmanager
def serving(config: EnsembleConfig) -> Iterator[str]:
    """Serve an ensemble at a free port of loopback; gives the address, without a path.

    Raises:
        EngineError: The server did not start.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "ensemble.yaml"
        config.save(file)
        command = [sys.executable, "-m", "deepen_llm", "serve", "--config", str(file), "--port", "0"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # noqa: S603
        try:
            yield _read_address(process)
        finally:
            process.terminate()
            try:
                process.communicate(timeout=END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()


def _read_address(process: subprocess.Popen[str]) -> str:
    """What the server says once it can be asked."""
    told = process.stdout.readline() if process.stdout else ""
    if (found := re.search(r"http://[^/\s]+", told)) is None:
        process.terminate()
        raise EngineError(f"the server did not start: {process.communicate()[1][-1000:] or 'it said nothing'}")
    return found[0]
