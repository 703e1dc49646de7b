from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time

import pytest

from deepen_llm.starter import model_paths


def test_members_without_a_chat_template_are_refused_at_once(deepen, use_ensemble, make_ensemble, monkeypatch):
    ensemble = make_ensemble(["a story."])
    monkeypatch.setattr(type(ensemble), "has_chat_template", property(lambda self: False))
    use_ensemble(ensemble)
    result = deepen("chat", input="hi\n")
    assert result.exit_code == 1
    assert "must have a chat template" in result.stderr


@pytest.mark.skipif(not hasattr(os, "setsid"), reason="needs a pseudo-terminal")
def test_a_real_ctrl_c_ends_the_answer_and_not_the_program():
    """The starter models in a terminal: an answer without an end is stopped, then the program is asked to quit."""
    assert all(path.is_dir() for path in model_paths())
    controller, terminal = pty.openpty()
    command = [sys.executable, "-m", "deepen_llm", "chat", "--ignore-eos", "-n", "900"]
    process = subprocess.Popen(
        command,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
        # A shell lets what it runs in the background ignore Ctrl-C, and so would the program that is tested here.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    os.close(terminal)
    try:
        read_until(controller, b"Ctrl-C stops an answer.")
        os.write(controller, b"hello\n")
        read_more(controller, 400)  # the answer is under way: while a line is read, Ctrl-C only drops the line
        process.send_signal(signal.SIGINT)
        read_until(controller, b"[stopped]")
        os.write(controller, b"/quit\n")
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.wait()
        os.close(controller)


def read_until(controller, wanted, timeout_s=120):
    """Read the terminal until the wanted bytes came (Rich may wrap lines: spaces and line ends count alike)."""
    seen, deadline = b"", time.monotonic() + timeout_s
    while b" ".join(wanted.split()) not in b" ".join(seen.split()):
        seen += read_some(controller, deadline)


def read_more(controller, num_bytes, timeout_s=120):
    """Read until so many bytes came: more than a terminal's own echo and escape sequences for one line."""
    seen, deadline = b"", time.monotonic() + timeout_s
    while len(seen) < num_bytes:
        seen += read_some(controller, deadline)


def read_some(controller, deadline):
    ready, _, _ = select.select([controller], [], [], max(0.0, deadline - time.monotonic()))
    assert ready, "the terminal stayed silent"
    return os.read(controller, 4096)


def test_what_comes_through_a_pipe_is_answered_without_marks(deepen, use_ensemble, make_ensemble, monkeypatch):
    ensemble = make_ensemble(["a story."])
    monkeypatch.setattr(type(ensemble), "has_chat_template", property(lambda self: True))
    use_ensemble(ensemble)
    result = deepen("chat", input="/help\n/exit\n")
    assert result.exit_code == 0
    assert "/system TEXT" in result.stdout and "> " not in result.stdout


def test_input_that_is_no_text_ends_the_chat_with_a_word(deepen, use_ensemble, make_ensemble, monkeypatch):
    ensemble = make_ensemble(["a story."])
    monkeypatch.setattr(type(ensemble), "has_chat_template", property(lambda self: True))
    for bad in (b"\xff\xfe\n", b"x" * 1_000_001):
        use_ensemble(ensemble)
        result = deepen("chat", input=bad)
        assert result.exit_code == 1
        assert "the standard input must" in result.stderr
