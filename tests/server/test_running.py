"""A server from its start to its end, as the command line starts it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest
from typer.testing import CliRunner

from deepen_llm.cli.app import app
from deepen_llm.errors import ConfigError
from deepen_llm.server.running import take_port


def test_a_port_that_is_taken_is_told_and_what_to_do():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"listen at port {port} of '127.0.0.1': .*in use: give another port"):
            take_port("127.0.0.1", port)


def test_what_is_sent_goes_out_at_once(server):
    """With Nagle's algorithm the parts of an answer would wait for each other's receipt, 40 ms each."""
    with httpx.Client(base_url=server.address) as client:
        seconds = []
        for _ in range(20):
            begun_s = time.monotonic()
            client.get("/version")
            seconds.append(time.monotonic() - begun_s)
    assert min(seconds) < 0.03
    with take_port("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_an_address_of_nobody_here_is_told():
    with pytest.raises(ConfigError, match=r"listen at port 0 of 'no\.such\.host\.invalid'"):
        take_port("no.such.host.invalid", 0)


@pytest.mark.parametrize("sign", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_the_command_answers_until_it_is_asked_to_stop_and_then_ends_what_runs(sign):
    command = [sys.executable, "-m", "deepen_llm", "serve", "--port", "0"]
    environment = {**os.environ, "DEEPEN_API_KEY": "secret", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        address = re.search(r"http://\S+", process.stdout.readline())[0]
        with httpx.Client(headers={"Authorization": "Bearer secret"}, timeout=60) as client:
            body = {"prompt": "Once", "max_tokens": 40, "ignore_eos": True, "stream": True}
            with client.stream("POST", f"{address}/completions", json=body) as answer:
                lines = answer.iter_lines()
                next(lines)
                process.send_signal(sign)
                rest = [line for line in lines if line.startswith("data:")]
        assert rest[-1] == "data: [DONE]" and '"length"' in rest[-2]
        assert process.wait(30) == 0
        assert "Traceback" not in process.stderr.read()
    finally:
        process.kill()
        process.communicate()


def test_wrong_settings_are_wrong_usage(tmp_path):
    for arguments in (["--port", "70000"], ["--api-key-file", str(tmp_path / "none")], ["--timeout", "0"]):
        result = CliRunner().invoke(app, ["serve", *arguments])
        assert result.exit_code == 2


def test_an_empty_file_of_keys_locks_nobody_out_by_mistake(tmp_path):
    (tmp_path / "keys").write_text("\n")
    result = CliRunner().invoke(app, ["serve", "--api-key-file", str(tmp_path / "keys")])
    assert result.exit_code == 2 and "must hold a key" in " ".join(result.output.split())


def test_without_the_packages_the_command_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "deepen_llm.server.running", None)
    result = CliRunner().invoke(app, ["serve"])
    assert result.exit_code == 1 and "deepen-llm[server]" in result.output
