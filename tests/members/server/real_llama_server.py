"""llama.cpp's own server in a process of its own, with a GGUF file: `python real_llama_server.py FILE THREADS`.

It says its address and ends with its standard input.
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

CONTEXT, NUM_SLOTS = 2048, 4


@contextmanager
def running(path, threads=1):
    """The address of a server that holds this file."""
    command = [sys.executable, __file__, str(path), str(threads)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            address = process.stdout.readline().decode().strip()
            assert address.startswith("http://"), "the server did not start"
            yield address
        finally:
            process.kill()


def serve(path, threads):
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(Path(path))
    params.n_ctx, params.n_parallel = CONTEXT * NUM_SLOTS, NUM_SLOTS
    params.cpuparams.n_threads = int(threads)
    params.no_extra_bufts = True  # laid out for AMX, weights end the process where the machine does not allow it
    params.warmup = False
    params.hostnames, params.port = ["127.0.0.1"], 0
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    serve(*sys.argv[1:])
