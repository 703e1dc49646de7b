"""The process that runs trials, and what a trial must come to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

MAX_MORE_SECONDS = 5.0
MAX_MORE_MEGABYTES = 1024
MAX_MESSAGE = 2000


class Trials:
    """Runs trials in processes of their own; see `tests.hostile.trial`."""

    def __init__(self) -> None:
        quiet = {
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "DEEPEN_CACHE": "off",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.hostile.trial"],
            cwd=Path(__file__).parents[2],
            env={**os.environ, **quiet},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def run(self, what: str, path: Path) -> dict[str, Any]:
        """What came of one."""
        self._process.stdin.write(json.dumps({"what": what, "path": str(path)}) + "\n")
        self._process.stdin.flush()
        return json.loads(next(line for line in self._process.stdout if line.startswith("{")))

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def find_faults(outcome: dict[str, Any], good: dict[str, Any]) -> list[str]:
    """What is wrong with an outcome, beside that of something good."""
    faults = []
    if outcome["kind"] not in ("answer", "own"):
        faults.append(f"{outcome['kind']} {outcome.get('name', '')}: {outcome['text'][:200]}")
    if outcome["seconds"] > good["seconds"] + MAX_MORE_SECONDS:
        faults.append(f"{outcome['seconds']:.1f} s")
    if outcome["megabytes"] > good["megabytes"] + MAX_MORE_MEGABYTES:
        faults.append(f"{outcome['megabytes']:.0f} MB")
    if outcome["kind"] == "own" and len(outcome["text"]) > MAX_MESSAGE:
        faults.append(f"a message of {len(outcome['text'])} characters")
    return faults
