"""Requests that schemathesis makes of the server's OpenAPI document. Not part of the default run."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("schemathesis")


@pytest.mark.slow
def test_no_request_of_the_document_is_the_servers_fault(server):
    checks = ["--checks", "not_a_server_error", "--max-examples", "15", "--request-timeout", "60"]
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.address}/openapi.json", *checks]
    result = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert result.returncode == 0, result.stdout[-3000:]
