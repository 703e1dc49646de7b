"""Several replicas of one server: Ray Serve runs the application in processes of a cluster, behind one address."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, final

from fastapi import FastAPI
from prometheus_client import Metric

from deepen_llm.errors import ConfigError, MemberError, MissingDependencyError, quote
from deepen_llm.frontends.source import EnsembleSource
from deepen_llm.members.ray.cluster import connect
from deepen_llm.server.app import build_app
from deepen_llm.server.running import address_of, take_port, warn_of_strangers
from deepen_llm.server.service import Service
from deepen_llm.server.settings import ServerSettings

APPLICATION = "deepen"
HEAD = "node:__internal_head__"
"""The resource by which Ray knows the head of a cluster."""
MAX_REQUESTS = 1_000_000
"""What Serve may give a replica at a time: all, for the replica's own admission says what may wait."""
POLL_S = 0.2
END_S = 10.0
"""How long a replica may take to answer the server itself, or to end."""
QUIET = {"log_level": "WARNING", "enable_access_log": False}


def serve_replicas(
    source: EnsembleSource, settings: ServerSettings, on_start: Callable[[str], None] | None = None
) -> None:
    """Answer until a signal comes, by `settings.replicas` processes that load the same ensemble. For the main thread.

    The cluster is the one that `ray.init()` finds: at RAY_ADDRESS, on this machine, or else a new one that ends with
    the server. The address is that of the cluster's head.

    Args:
        source: What each replica loads, from files that are at the same place on every machine.
        settings: Where, and for whom; limits are each replica's.
        on_start: Told the server's address once all replicas answer.

    Raises:
        ConfigError: The cluster has no room or serves already, the port cannot be had, or `source` is something else.
        MemberError: There is no cluster, or a replica cannot load the ensemble.
        MissingDependencyError: Ray Serve is not installed.
    """
    if not isinstance(source, EnsembleSource):
        raise ConfigError(
            f"replicas load their ensembles themselves: give the EnsembleSource; got {type(source).__name__}"
        )
    ray, serve = _import_ray()
    with _cluster(ray), _waiting_for_signals() as stop:  # in this order, for Ray sets a handler, too
        _check_room(ray, serve, settings)
        address = _start_proxy(ray, serve, settings)
        warn_of_strangers(settings)
        try:
            replicas = Replicas(serve, source, settings)
            if replicas.wait_until_they_answer(stop):
                if on_start is not None:
                    on_start(address)
                stop.wait()
                replicas.drain()
        finally:
            serve.shutdown()


class Replica:
    """One of them, as Serve makes it: a class around the application, which is its `app`."""

    app: FastAPI

    async def drain(self) -> None:
        """Take nothing new on."""
        self._service.admission.is_draining = True

    async def count_answers(self) -> int:
        """How many answers run or wait."""
        return self._service.admission.num_taken

    async def read_numbers(self) -> tuple[str, list[Metric]]:
        """Its name, and its numbers."""
        from ray.serve import get_replica_context

        return get_replica_context().replica_tag, self._service.metrics.read()

    @property
    def _service(self) -> Service:
        service: Service = self.app.state.service
        return service


async def gather_numbers() -> dict[str, list[Metric]]:
    """The numbers of all replicas that are alive, by their names. Asked in one of them."""
    from ray.serve import get_deployment_handle

    asked = get_deployment_handle(APPLICATION, APPLICATION).broadcast("read_numbers")
    answers = await asked.results_async(timeout_s=END_S, return_exceptions=True)
    return dict(answer for answer in answers if not isinstance(answer, Exception))


@final
class Replicas:
    """The deployment: so many processes, each with an application and an ensemble of its own."""

    def __init__(self, serve: Any, source: EnsembleSource, settings: ServerSettings) -> None:
        """Have them load, and do not wait for it."""
        self._serve, self._settings = serve, settings

        def build() -> FastAPI:
            app = build_app(source.open(), settings)
            app.state.service.metrics.gather = gather_numbers
            return app

        deployment = serve.deployment(
            serve.ingress(build)(Replica),
            name=APPLICATION,
            num_replicas=settings.replicas,
            ray_actor_options={"num_cpus": settings.replica_cpus, "num_gpus": settings.replica_gpus},
            max_ongoing_requests=MAX_REQUESTS,
            max_constructor_retry_count=1,
            graceful_shutdown_timeout_s=END_S,
            graceful_shutdown_wait_loop_s=POLL_S,
            logging_config=QUIET,
        )
        target = serve.RunTarget(deployment.bind(), name=APPLICATION)
        self._handle = serve.run_many([target], wait_for_applications_running=False)[0]

    def wait_until_they_answer(self, stop: threading.Event) -> bool:
        """Whether they do: not where `stop` comes first.

        Raises:
            MemberError: One could not load its ensemble.
        """
        while not stop.wait(POLL_S):
            status, message = self._find_status()
            if status == "RUNNING":
                return True
            if status == "DEPLOY_FAILED":
                reason = message.strip().splitlines()[-1].removeprefix("deepen_llm.errors.")
                raise MemberError(f"a replica could not load the ensemble: {reason}")
        return False

    def drain(self) -> None:
        """Have them take nothing new on, and let what runs come to its end, for as long as the settings say."""
        end_s = time.monotonic() + self._settings.drain_s
        self._ask_all("drain")
        while time.monotonic() < end_s and any(self._ask_all("count_answers")):
            time.sleep(POLL_S)
        self._serve.delete(APPLICATION)

    def _ask_all(self, method: str) -> list[Any]:
        """What those that are alive answer."""
        answers = self._handle.broadcast(method).results(timeout_s=END_S, return_exceptions=True)
        return [answer for answer in answers if not isinstance(answer, Exception)]

    def _find_status(self) -> tuple[str, str]:
        """Serve's word for how they are, and what it says of them."""
        found = self._serve.status().applications.get(APPLICATION)
        if found is None:
            return "NOT_STARTED", ""
        told = [found.message, *(deployment.message for deployment in found.deployments.values())]
        return found.status.value, "\n".join(told)


def _import_ray() -> tuple[Any, Any]:
    """Ray and its Serve.

    Raises:
        MissingDependencyError: One of them is not installed.
    """
    try:
        return importlib.import_module("ray"), importlib.import_module("ray.serve")
    except ImportError as missing:
        raise MissingDependencyError(
            f"several replicas need Ray Serve: pip install 'deepen-llm[ray,server]' ({missing})"
        ) from missing


@contextmanager
def _cluster(ray: Any) -> Iterator[None]:
    """A connection to a cluster, this process's own one where it has it.

    Raises:
        ConfigError: RAY_ADDRESS is no address.
        MemberError: There is none where it says.
    """
    if ray.is_initialized():
        yield
        return
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    connect(ray, None, "a replica")
    try:
        yield
    finally:
        ray.shutdown()


def _check_room(ray: Any, serve: Any, settings: ServerSettings) -> None:
    """Raise ConfigError for what would wait for ever, or get in the way of others."""
    if serve.status().proxies:
        raise ConfigError("the cluster must not run Ray Serve for others, and it does: end that (serve shutdown)")
    free = ray.available_resources()
    for kind, each in (("CPU", settings.replica_cpus), ("GPU", settings.replica_gpus)):
        if settings.replicas * each > free.get(kind, 0):
            raise ConfigError(
                f"the cluster must have room for {settings.replicas} replicas with {each:g} {kind} each; "
                f"{free.get(kind, 0):g} {kind} are free: give fewer replicas or replica_{kind.lower()}s, or add a node"
            )


def _start_proxy(ray: Any, serve: Any, settings: ServerSettings) -> str:
    """Have the cluster's head listen; returns the address.

    Raises:
        ConfigError: The port cannot be had.
    """
    host, port = settings.host, settings.port
    here = ray.get_runtime_context().get_node_id()
    head = next(node for node in ray.nodes() if HEAD in node["Resources"])
    if head["NodeID"] == here:
        with take_port(host, port) as listener:
            port, address = listener.getsockname()[1], address_of(listener)
    elif port == 0:
        raise ConfigError("port must be named where the head of the cluster is another machine; got 0")
    else:
        address = f"http://{head['NodeManagerAddress']}:{port}"
    try:
        serve.start(
            proxy_location="HeadOnly",
            http_options={"host": host, "port": port},
            logging_config=QUIET,
        )
    except (RuntimeError, OSError, ray.exceptions.RayError) as error:
        raise ConfigError(
            f"Ray Serve cannot listen at port {port} of {quote(host)}: {error}: give another port"
        ) from error
    return address


@contextmanager
def _waiting_for_signals() -> Iterator[threading.Event]:
    """What is set by SIGTERM or Ctrl-C; the second of them ends the process at once."""
    stop = threading.Event()

    def note(sign: int, _: object) -> None:
        if stop.is_set():
            os._exit(128 + sign)
        stop.set()

    before = {sign: signal.signal(sign, note) for sign in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)
