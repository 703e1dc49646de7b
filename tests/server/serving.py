"""A server in a thread, on a loopback port of its own."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager

import uvicorn
from sse_starlette.sse import AppStatus

from deepen_llm.server.app import build_app
from deepen_llm.server.running import Server, address_of, take_port
from deepen_llm.server.settings import ServerSettings


@contextmanager
def serving(ensemble, **settings):
    """Serve an ensemble; gives the server, which has an `address` and a `service`."""
    settings = ServerSettings(port=0, **settings)
    app = build_app(ensemble, settings)
    listener = take_port(settings.host, settings.port)
    server = Server(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=10))
    server.service, server.address = app.state.service, address_of(listener)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield server
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()
        AppStatus.should_exit = False  # one for all servers of a process


def wait_until(is_so, seconds=10.0):
    """Whether something comes to be so within some seconds."""
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        if is_so():
            return True
        time.sleep(0.01)
    return False
