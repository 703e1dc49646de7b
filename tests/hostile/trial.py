"""Loads what may be hostile, each time in a process of its own; run as `python -m tests.hostile.trial`.

It reads a JSON line a trial, {"what": "folder" or "yaml", "path": ...}, and answers with a line: the outcome, the
processor's seconds and the memory that it took.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path

LIMIT_BYTES = 3 << 30
LIMIT_S = 30
PROMPT = "The quick brown fox"


def attempt(what: str, path: str) -> dict[str, str]:
    """Whether loading, and then an answer, comes to an end as it should."""
    from deepen_llm import Ensemble, EnsembleConfig, SamplingParams
    from deepen_llm.errors import DeepenError

    try:
        if what == "yaml":
            return {"kind": "answer", "text": repr(EnsembleConfig.load(path))[:1000]}
        with Ensemble.from_pretrained(path, local_files_only=True) as ensemble:
            return {"kind": "answer", "text": ensemble.generate(PROMPT, SamplingParams(max_new_tokens=8)).text}
    except DeepenError as error:
        return {"kind": "own", "name": type(error).__name__, "text": str(error)}
    except BaseException as error:
        return {"kind": "foreign", "name": type(error).__name__, "text": str(error)[:500]}


def run(what: str, path: str) -> dict[str, object]:
    """One trial in a child: what came, how long it took and how much memory it had at most beyond this process."""
    reader, writer = os.pipe()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    child = os.fork()
    if child == 0:
        os.close(reader)
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + LIMIT_BYTES, size + LIMIT_BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_S, LIMIT_S))
        os.write(writer, json.dumps(attempt(what, path)).encode()[:60_000])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        said = file.read()
    _, status, used = os.wait4(child, 0)
    outcome = json.loads(said) if said else {"kind": "died", "text": f"status {status}"}
    # Of the processor: on a busy machine the clock says nothing.
    return {**outcome, "seconds": used.ru_utime + used.ru_stime, "megabytes": (used.ru_maxrss - before) / 1024}


def main() -> None:
    import logging
    import warnings

    import torch

    import deepen_llm.members.transformers.loading  # noqa: F401 (imported once, for all children)

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(run(asked["what"], asked["path"])), flush=True)


if __name__ == "__main__":
    main()
