"""Chat templates rendered in processes of their own, whose time and memory are limited: a stranger wrote them."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from queue import Empty, LifoQueue, SimpleQueue
from typing import IO, Any, final

import jinja2
import markupsafe

MAX_RENDER_S = 2.0
"""A template that is not done by then never will be: good ones take less than a millisecond."""
MAX_START_S = 60.0
"""What a process may take to begin, on a machine that is busy."""
NUM_PROCESSES = 4
"""At most: the second one starts where a chat is rendered while another is."""
KEPT_VARIABLES = ("TZ", "SYSTEMROOT", "LD_LIBRARY_PATH", "PYTHONHOME")
"""Of the environment: the local time, and what an interpreter needs to start. Nothing else is a template's business."""
WORKER = Path(__file__).with_name("template_worker.py")

EMPTY_REQUEST = b'{"template": "", "variables": {}, "max_characters": 0, "limit_s": 60}\n'


class TemplateRefusedError(Exception):
    """A template that cannot be read, or raised an error: the message is the template's."""


class TemplateOverrunError(Exception):
    """A template that takes too long, or takes its process down. Another form of the messages will not help."""


@final
class TemplateProcess:
    """One process that renders, and the thread that speaks with it: who waits for an answer need not wait for ever."""

    def __init__(self) -> None:
        """Start it; raises OSError where that cannot be done."""
        packages = dict.fromkeys(str(Path(module.__file__ or "").parents[1]) for module in (jinja2, markupsafe))
        kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
        self._process = subprocess.Popen(  # noqa: S603  (our own program, and nothing of anybody's on its command line)
            [sys.executable, "-S", "-P", str(WORKER)],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**kept, "PYTHONPATH": os.pathsep.join(packages)},
            start_new_session=True,  # a Ctrl-C at the terminal is not meant for it
        )
        self._requests: SimpleQueue[bytes | None] = SimpleQueue()
        self._answers: SimpleQueue[bytes] = SimpleQueue()
        threading.Thread(target=self._exchange, name="deepen-templates", daemon=True).start()

    def ask(self, request: bytes, timeout_s: float) -> bytes:
        """The answer to a line, empty where the process has ended.

        Raises:
            TimeoutError: It is not there in time.
        """
        self._requests.put(request)
        try:
            return self._answers.get(timeout=timeout_s)
        except Empty:
            raise TimeoutError from None

    def close(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.wait()
        self._requests.put(None)

    def disown(self) -> None:
        """In a forked child, where neither the thread nor the process is its own: close its ends of the pipes."""
        for pipe in filter(None, (self._process.stdin, self._process.stdout)):
            pipe.close()
        self._process.returncode = 0  # it is the parent's to wait for

    def _exchange(self) -> None:
        """Pass requests on and answers back; an empty answer is the last."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("the process was started with pipes")
        with stdin, stdout, open(stdout.fileno(), "rb", closefd=False) as lines:
            while (request := self._requests.get()) is not None:
                line = b""
                with suppress(OSError):  # the process has ended: so has what it writes
                    _write(stdin, request)
                    line = lines.readline()
                self._answers.put(line if line.endswith(b"\n") else b"")
        self._answers.put(b"")  # whoever asks now is not kept waiting


@final
class TemplateProcesses:
    """The processes of this one, started as they are needed. Safe to use from many threads."""

    def __init__(self) -> None:
        self._free: LifoQueue[TemplateProcess | None] = LifoQueue()
        for _ in range(NUM_PROCESSES):
            self._free.put(None)
        self._all: set[TemplateProcess] = set()

    def render(self, request: Mapping[str, Any], timeout_s: float | None = None) -> str:
        """See `render_template`, which raises the same."""
        line = json.dumps({**request, "limit_s": MAX_RENDER_S + 1}, default=str).encode("ascii") + b"\n"
        end_s = None if timeout_s is None else time.monotonic() + timeout_s
        answer = self._ask(line, end_s) or self._ask(line, end_s)  # somebody else may have ended the first process
        if not answer:
            raise TemplateOverrunError("it brings the process down in which it is rendered")
        said = json.loads(answer)
        if "error" in said:
            raise TemplateRefusedError(said["error"])
        text: str = said["text"]
        return text

    def close(self) -> None:
        """End the processes."""
        for process in tuple(self._all):
            self._drop(process)

    def disown(self) -> None:
        """In a forked child: leave the processes to the parent."""
        for process in self._all:
            process.disown()

    def _ask(self, line: bytes, end_s: float | None) -> bytes:
        try:
            free = self._free.get(timeout=_left(end_s))
        except Empty:
            raise TimeoutError from None
        process = None
        try:
            process = free or self._start(end_s)
            answer = _ask_in_time(process, line, end_s)
        except BaseException:
            if process is not None:
                self._drop(process)
            self._free.put(None)
            raise
        if not answer:
            self._drop(process)
        self._free.put(process if answer else None)
        return answer

    def _start(self, end_s: float | None) -> TemplateProcess:
        """A process that has rendered something already: the time to start is not the template's."""
        try:
            process = TemplateProcess()
        except OSError as error:
            raise TemplateOverrunError(f"no process starts that renders it ({sys.executable!r}: {error})") from error
        self._all.add(process)
        try:
            if not process.ask(EMPTY_REQUEST, _left(end_s)):
                raise TemplateOverrunError(f"the process ended at once that was to render it ({sys.executable!r})")
        except BaseException:
            self._drop(process)
            raise
        return process

    def _drop(self, process: TemplateProcess) -> None:
        self._all.discard(process)
        process.close()


def _ask_in_time(process: TemplateProcess, line: bytes, end_s: float | None) -> bytes:
    left_s = _left(end_s)
    try:
        return process.ask(line, min(left_s, MAX_RENDER_S))
    except TimeoutError:
        if left_s <= MAX_RENDER_S:
            raise
        raise TemplateOverrunError(f"it was still rendering after {MAX_RENDER_S:g} s") from None


def _left(end_s: float | None) -> float:
    """Seconds until then, as far as anybody waits for a process."""
    return MAX_START_S if end_s is None else min(max(end_s - time.monotonic(), 0.0), MAX_START_S)


def _write(pipe: IO[bytes], data: bytes) -> None:
    """All of it: a pipe without a buffer takes as much as it has room for."""
    rest = memoryview(data)
    while rest:
        rest = rest[pipe.write(rest) :]


_processes = TemplateProcesses()
_inherited: list[TemplateProcesses] = []


def render_template(
    template: str, variables: Mapping[str, Any], *, max_characters: int, timeout_s: float | None = None
) -> str:
    """A template's text, in a process that has nothing else to do.

    Args:
        template: In Jinja, as transformers reads it.
        variables: What it sees, the messages among it: JSON values.
        max_characters: A text that comes out longer is refused.
        timeout_s: Seconds that the caller has left; None is as long as a template may take at all.

    Raises:
        TemplateRefusedError: The template cannot be read, or fails.
        TemplateOverrunError: It takes longer than `MAX_RENDER_S`, or its process does not live through it.
        TimeoutError: The caller's time was over first.
    """
    request = {"template": template, "variables": variables, "max_characters": max_characters}
    return _processes.render(request, timeout_s)


def _renew() -> None:
    """In a forked child: begin anew, and keep the parent's processes from being waited for here."""
    global _processes
    _processes.disown()
    _inherited.append(_processes)
    _processes = TemplateProcesses()


atexit.register(lambda: _processes.close())
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
