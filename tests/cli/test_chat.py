from __future__ import annotations

import builtins
import os
import pty
import select
import signal
import subprocess
import sys
import time

import pytest

from deepen_llm import SamplingParams
from deepen_llm.cli.chat import Conversation
from deepen_llm.errors import ContextLengthError, MemberTimeoutError
from deepen_llm.results import Chunk
from deepen_llm.starter import model_paths


class ScriptedEnsemble:
    """Answers chats with scripted pieces; an exception among them is raised where it stands."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []
        self.num_closed = 0

    def stream_chat(self, messages, params):
        self.asked.append(list(messages))
        ensemble, pieces = self, self.answers.pop(0)

        class Stream:
            def __enter__(self):
                return self

            def __exit__(self, *_):
                ensemble.num_closed += 1

            def __iter__(self):
                for piece in pieces:
                    if isinstance(piece, BaseException):
                        raise piece
                    yield Chunk(piece)

        return Stream()


@pytest.fixture
def talk(monkeypatch, capsys):
    """Run a conversation over typed lines; a KeyboardInterrupt or EOFError among them is raised by `input`."""

    def run(ensemble, *lines, system=None):
        typed = iter([*lines, EOFError()])

        def read(prompt):
            line = next(typed)
            if isinstance(line, BaseException):
                raise line
            return line

        monkeypatch.setattr(builtins, "input", read)
        conversation = Conversation(ensemble, SamplingParams(), system)
        conversation.run()
        return conversation, capsys.readouterr()

    return run


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def test_the_conversation_grows_by_questions_and_answers(talk):
    ensemble = ScriptedEnsemble(["Hel", "lo"], ["Fine"])
    conversation, printed = talk(ensemble, "hi", "", "how are you?", "/quit", "never read")
    assert ensemble.asked == [[user("hi")], [user("hi"), assistant("Hello"), user("how are you?")]]
    assert conversation.messages[-1] == assistant("Fine")
    assert "Hello\n" in printed.out and "Fine\n" in printed.out


def test_ctrl_c_stops_the_answer_and_keeps_what_came(talk):
    ensemble = ScriptedEnsemble(["Once upon", KeyboardInterrupt(), " a time"], ["Yes"])
    conversation, printed = talk(ensemble, "tell me", KeyboardInterrupt(), "more?")
    assert ensemble.asked[1] == [user("tell me"), assistant("Once upon"), user("more?")]
    assert ensemble.num_closed == 2
    assert "[stopped]" in printed.out
    assert conversation.messages[-1] == assistant("Yes")


def test_reset_forgets_all_but_the_system_message(talk):
    system = {"role": "system", "content": "be brief"}
    ensemble = ScriptedEnsemble(["a"], ["b"])
    talk(ensemble, "one", "/reset", "two", system="be brief")
    assert ensemble.asked == [[system, user("one")], [system, user("two")]]


def test_a_message_that_fails_is_forgotten_and_the_program_goes_on(talk):
    error = ContextLengthError("the text has 9 tokens, the context holds 8")
    ensemble = ScriptedEnsemble([error], ["fine"])
    conversation, printed = talk(ensemble, "too long", "short")
    assert ensemble.asked[1] == [user("short")]
    assert "error: the text has 9 tokens" in printed.err
    assert "/reset" in printed.out
    assert conversation.messages == [user("short"), assistant("fine")]


def test_an_error_in_mid_answer_begins_a_line_of_its_own(talk):
    late = MemberTimeoutError("an answer must be whole within its timeout of 1 s")
    conversation, printed = talk(ScriptedEnsemble(["Hel", late]), "hi")
    assert printed.out.startswith("Hel\n")
    assert "error: an answer must be whole within its timeout" in printed.err
    assert conversation.messages == []


def test_an_unknown_command_lists_the_known_ones_but_a_path_in_a_sentence_is_a_message(talk):
    ensemble = ScriptedEnsemble(["ok"])
    _, printed = talk(ensemble, "/resett", "/etc/hosts is a file")
    assert "there is no command /resett: /reset forgets" in printed.out
    assert ensemble.asked == [[user("/etc/hosts is a file")]]


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
