from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from deepen_llm.vocabulary import rendering
from deepen_llm.vocabulary.rendering import (
    TemplateOverrunError,
    TemplateProcesses,
    TemplateRefusedError,
    render_template,
)
from tests.chat_templates import TEMPLATES

TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
TOOL = {"type": "function", "function": {"name": "add", "description": "é <&> 'x'", "parameters": {"type": "object"}}}
ENDLESS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"


def render(template, variables=None, *, max_characters=10_000, timeout_s=None):
    return render_template(template, variables or {}, max_characters=max_characters, timeout_s=timeout_s)


def say(*contents, system=None):
    chat = [{"role": ("user", "assistant")[i % 2], "content": content} for i, content in enumerate(contents)]
    return chat if system is None else [{"role": "system", "content": system}, *chat]


CHATS = [
    say("Hello!"),
    say(" Hi. \n", "Hello, you.", "What is 2 + 2?"),
    say("a", "<think>b</think>\n\nc", "é ☃ 😀 <|im_end|> {{ 1 }} \\n", system=" Be brief.\n"),
]


def by_transformers(template, messages, variables):
    try:
        options = {key: value for key, value in variables.items() if key not in ("tools", "documents")}
        return render_jinja_template(
            [messages], tools=variables["tools"], documents=None, chat_template=template, **options
        )[0][0]
    except Exception as error:
        return str(error)


def by_worker(template, messages, variables):
    try:
        return render(template, {**variables, "messages": messages})
    except TemplateRefusedError as error:
        return str(error)


@pytest.mark.parametrize("family", TEMPLATES)
def test_a_template_makes_what_transformers_makes_of_it(family):
    for messages in CHATS:
        for prompted in (True, False):
            for options in ({}, {"tools": [TOOL], "enable_thinking": False}):
                variables = {"tools": None, "documents": None, **TOKENS, "add_generation_prompt": prompted, **options}
                expected = by_transformers(TEMPLATES[family], messages, variables)
                assert by_worker(TEMPLATES[family], messages, variables) == expected


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ 1/0 }}", "division by zero"),
        ("{{ nothing.at.all }}", "'nothing' is undefined"),
        ("{% if %}", "Expected an expression"),
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ raise_exception('x' * 1000000) }}", "^x{400}$"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "calls itself too often"),
        ("{{ " + "(" * 2000 + "1" + ")" * 2000 + " }}", "nested too deeply"),
        ("{{ ''.__class__.__mro__ }}", "access to attribute '__class__' of 'str' object is unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{% set ns = namespace(_x=1) %}", "underscore"),
        ("{% include 'x' %}", "no loader"),
        ("{% for i in range(1000000) %}{% endfor %}", "Range too big"),
        ("{{ 'a' * 20000 }}", "writes more than 10,000 characters"),
        ("{{ 'ab' * 2 ** 40 }}", "memory"),
        ("{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}", "memory"),
    ],
)
def test_what_fails_in_a_template_is_told_in_a_readable_length(template, said):
    with pytest.raises(TemplateRefusedError, match=said) as caught:
        render(template, {"messages": [1]})
    assert len(str(caught.value)) <= 400


def test_a_template_that_never_ends_is_ended(monkeypatch):
    monkeypatch.setattr(rendering, "MAX_RENDER_S", 0.3)
    begin_s = time.monotonic()
    for endless in (ENDLESS, "{{ 10 ** 100000000 }}", "{{ '%.1000000000f' | format(1.0) }}"):
        with pytest.raises((TemplateOverrunError, TemplateRefusedError)):
            render(endless)
    assert time.monotonic() - begin_s < 10
    assert render("{{ 1 }}") == "1"


def test_a_callers_time_is_over_before_a_templates():
    begin_s = time.monotonic()
    with pytest.raises(TimeoutError):
        render(ENDLESS, timeout_s=0.2)
    assert time.monotonic() - begin_s < 2
    assert render("{{ 1 }}") == "1"


def test_a_process_that_somebody_ended_is_made_anew():
    processes = TemplateProcesses()
    request = {"template": "{{ 1 }}", "variables": {}, "max_characters": 10}
    assert processes.render(request) == "1"
    (process,) = processes._all
    process._process.kill()
    process._process.wait()
    assert processes.render(request) == "1"
    (again,) = processes._all
    assert again is not process
    processes.close()
    assert again._process.returncode is not None and not processes._all
    assert processes.render(request) == "1"
    processes.close()


def test_a_template_that_brings_the_process_down_is_named_so(monkeypatch):
    processes = TemplateProcesses()
    monkeypatch.setattr(processes, "_start", lambda end_s: rendering.TemplateProcess())
    monkeypatch.setattr(rendering.TemplateProcess, "ask", lambda self, line, timeout_s: b"")
    with pytest.raises(TemplateOverrunError, match="brings the process down"):
        processes.render({"template": "", "variables": {}, "max_characters": 1})


def test_where_no_process_can_be_started_it_is_said(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(TemplateOverrunError, match="no process starts that renders it"):
        TemplateProcesses().render({"template": "", "variables": {}, "max_characters": 1})


def test_many_threads_render_at_once_and_one_endless_template_holds_up_nobody():
    def spin():
        with pytest.raises(TimeoutError):
            render(ENDLESS, timeout_s=1.0)

    hostile = threading.Thread(target=spin)
    hostile.start()
    with ThreadPoolExecutor(8) as threads:
        begin_s = time.monotonic()
        told = list(threads.map(lambda i: render("{{ i }}", {"i": i}), range(400)))
        assert time.monotonic() - begin_s < 60
    hostile.join()
    assert told == [str(i) for i in range(400)]
    assert len(rendering._processes._all) <= rendering.NUM_PROCESSES


LOAD = f"""
import os, sys, threading, time
from importlib.util import module_from_spec, spec_from_file_location
spec = spec_from_file_location("rendering", {rendering.__file__!r})
rendering = sys.modules["rendering"] = module_from_spec(spec)
spec.loader.exec_module(rendering)
def render(template):
    return rendering.render_template(template, {{}}, max_characters=100)
"""
"""The module alone, without what imports for seconds."""


def run_python(program):
    command = [sys.executable, "-W", "error", "-c", LOAD + textwrap.dedent(program)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_has_processes_of_its_own():
    done = run_python(
        """
        assert render("{{ 1 }}") == "1"
        if (child := os.fork()) == 0:
            assert render("{{ 2 }}") == "2"
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert render("{{ 3 }}") == "3"
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_process_ends_with_its_parent_also_when_it_renders_for_ever():
    done = run_python(
        f"""
        threading.Thread(target=lambda: render({ENDLESS!r}), daemon=True).start()
        while not rendering._processes._all:
            time.sleep(0.01)
        time.sleep(1)
        print(next(iter(rendering._processes._all))._process.pid, flush=True)
        os._exit(0)
        """
    )
    pid, end_s = int(done.stdout), time.monotonic() + 30
    while time.monotonic() < end_s and is_alive(pid):
        time.sleep(0.2)
    assert not is_alive(pid)


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return not state.stdout.startswith("Z") and bool(state.stdout.strip())


def test_the_process_sees_nothing_of_the_callers_environment(monkeypatch):
    monkeypatch.setenv("SOME_SECRET", "s")
    process = rendering.TemplateProcess()
    try:
        assert json.loads(process.ask(rendering.EMPTY_REQUEST, 30)) == {"text": ""}
        assert b"SOME_SECRET" not in Path(f"/proc/{process._process.pid}/environ").read_bytes()
    except FileNotFoundError:
        pytest.skip("this system has no /proc")
    finally:
        process.close()
