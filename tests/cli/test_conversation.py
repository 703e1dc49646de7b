from __future__ import annotations

import pytest

from deepen_llm import SamplingParams
from deepen_llm.cli import typed_message
from deepen_llm.cli.conversation import Conversation
from deepen_llm.errors import ContextLengthError, MemberTimeoutError
from deepen_llm.results import Chunk


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
    """Run a conversation over typed lines, then the end of the input; a KeyboardInterrupt among them is raised."""

    def run(ensemble, *lines, system=None):
        typed = iter(lines)

        def read(mark):
            line = next(typed, None)
            if isinstance(line, BaseException):
                raise line
            return line

        monkeypatch.setattr(typed_message, "read_line", read)
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
    assert "there is no command /resett: /help, /reset" in printed.out
    assert ensemble.asked == [[user("/etc/hosts is a file")]]


def test_a_message_may_have_several_lines(talk):
    ensemble = ScriptedEnsemble(["a"], ["b"], ["c"])
    talk(ensemble, "one \\", "two", '"""def f():', "    return 1", '"""', '"""short"""')
    assert [asked[-1] for asked in ensemble.asked] == [user("one \ntwo"), user("def f():\n    return 1"), user("short")]


def test_ctrl_c_drops_all_lines_of_a_message(talk):
    ensemble = ScriptedEnsemble(["ok"])
    talk(ensemble, '"""one', KeyboardInterrupt(), "two")
    assert ensemble.asked == [[user("two")]]


def test_the_end_of_the_input_ends_a_message_too(talk):
    ensemble = ScriptedEnsemble(["ok"], ["ok"])
    talk(ensemble, "one\\")
    talk(ensemble, '"""two', "three")
    assert [asked[-1] for asked in ensemble.asked] == [user("one"), user("two\nthree")]


def test_a_system_message_begins_the_conversation_anew(talk):
    ensemble = ScriptedEnsemble(["a"], ["b"], ["c"])
    talk(ensemble, "one", "/system be brief", "two", "/system", "three")
    system = {"role": "system", "content": "be brief"}
    assert ensemble.asked == [[user("one")], [system, user("two")], [user("three")]]


def test_help_tells_every_command_and_how_to_type_several_lines(talk):
    _, printed = talk(ScriptedEnsemble(), "/help")
    assert all(word in printed.out for word in ("/help", "/reset", "/system TEXT", "/exit", "Ctrl-C", '"""'))
