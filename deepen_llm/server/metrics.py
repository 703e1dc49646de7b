"""What a server tells Prometheus, under the names that dashboards for vLLM know, with another prefix."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from deepen_llm.results import Chunk, Generation, Usage
from deepen_llm.server.admission import Admission
from deepen_llm.server.models import ServedModels

FIRST_BUCKETS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60)
TOKEN_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2)
REQUEST_BUCKETS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120, 300, 600)

CONTENT_TYPE = CONTENT_TYPE_LATEST


@final
class Metrics:
    """Counts what is answered. Each has the name of the model that was asked as `model_name`."""

    def __init__(self, models: ServedModels, admission: Admission) -> None:
        """Begin at nothing; what runs is read from the models when it is asked for."""
        self.gather: Callable[[], Awaitable[Mapping[str, Sequence[Metric]]]] | None = None
        """Where this is one of several replicas: the numbers of all of them, by name."""
        self._registry = CollectorRegistry()
        self._registry.register(StepCollector(models))
        running = Gauge("deepen_num_requests_running", "Answers that run.", registry=self._registry)
        running.set_function(lambda: min(models.num_running, admission.max_running))
        waiting = Gauge("deepen_num_requests_waiting", "Answers that wait.", registry=self._registry)
        waiting.set_function(lambda: max(models.num_running - admission.max_running, 0))
        self._prompt_tokens = self._count("deepen_prompt_tokens", "Tokens of prompts, the main model's.")
        self._cached = self._count("deepen_prefix_cache_hits", "Of these, those that earlier requests had read.")
        self._tokens = self._count("deepen_generation_tokens", "Tokens of answers.")
        self._successes = self._count("deepen_request_success", "Answers, by how they ended.", "finished_reason")
        self._refusals = Counter(
            "deepen_request_failure", "Requests not answered, by HTTP status.", ("status",), registry=self._registry
        )
        self._steps = self._count("deepen_steps", "Steps with a choice.")
        self._fused = self._count("deepen_fused_steps", "Steps in which all members had a say.")
        self._weights = Summary(
            "deepen_member_weight",
            "The members' weights at the end of an answer.",
            ("model_name", "member"),
            registry=self._registry,
        )
        self._first = self._time("deepen_time_to_first_token_seconds", "Until a stream's first token.", FIRST_BUCKETS)
        self._between = self._time("deepen_inter_token_latency_seconds", "Between a stream's tokens.", TOKEN_BUCKETS)
        self._whole = self._time("deepen_e2e_request_latency_seconds", "Until a request was answered.", REQUEST_BUCKETS)

    def _count(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(name, about, ("model_name", *labels), registry=self._registry)

    def _time(self, name: str, about: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(name, about, ("model_name",), registry=self._registry, buckets=buckets)

    def note_refusal(self, status: int) -> None:
        """A request was not answered."""
        self._refusals.labels(str(status)).inc()

    def note_request(self, model: str, seconds: float, usages: Sequence[Usage]) -> None:
        """A request was answered, with one usage for each of its prompts."""
        self._whole.labels(model).observe(seconds)
        self._prompt_tokens.labels(model).inc(sum(usage.prompt_tokens for usage in usages))
        self._cached.labels(model).inc(sum(usage.cached_tokens for usage in usages))

    def note_answer(self, model: str, answer: Generation | Chunk, member_names: Sequence[str]) -> None:
        """One answer is whole: itself, or the last piece of it."""
        self._successes.labels(model, answer.finish_reason or "stop").inc()
        if answer.usage is not None:
            self._tokens.labels(model).inc(answer.usage.completion_tokens)
        if answer.fusion is not None:
            self._steps.labels(model).inc(answer.fusion.num_steps - answer.fusion.num_forced)
            self._fused.labels(model).inc(answer.fusion.num_fused)
            for name, weight in zip(member_names, answer.fusion.weights, strict=False):
                self._weights.labels(model, name).observe(weight)

    def pace(self, model: str) -> Pace:
        """A clock for one stream of this model."""
        return Pace(self._first.labels(model), self._between.labels(model))

    def read(self) -> list[Metric]:
        """The numbers as they are now."""
        return list(self._registry.collect())

    async def write(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self._registry if self.gather is None else Gathered(await self.gather()))


@final
class Gathered(CollectorRegistry):
    """The numbers of several replicas together, each with the replica's name as a label."""

    def __init__(self, numbers: Mapping[str, Sequence[Metric]]) -> None:
        """Take the numbers by the replica's name."""
        super().__init__()
        self._numbers = numbers

    def collect(self) -> Iterator[Metric]:
        """Every metric once, with the samples of all."""
        merged: dict[str, Metric] = {}
        for replica, metrics in self._numbers.items():
            for metric in metrics:
                labelled = [sample._replace(labels={**sample.labels, "replica": replica}) for sample in metric.samples]
                merged.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type))
                merged[metric.name].samples += labelled
        yield from merged.values()


@final
class StepCollector(Collector):
    """What the engines' steps took: `deepen_engine_steps` and `deepen_member_seconds`, read when it is asked for."""

    def __init__(self, models: ServedModels) -> None:
        self._models = models

    def collect(self) -> Iterator[CounterMetricFamily]:
        """One number for each model, and one for each of its members."""
        steps = CounterMetricFamily("deepen_engine_steps", "Steps of a whole batch.", labels=("model_name",))
        about = "Seconds in which steps waited for a member: divided by the steps, seconds a step."
        seconds = CounterMetricFamily("deepen_member_seconds", about, labels=("model_name", "member"))
        for name in self._models.names:
            ensemble = self._models.find(name)
            times = ensemble.step_times
            steps.add_metric((name,), times.num_steps)
            for member, waited_s in zip(ensemble.member_names, times.seconds, strict=True):
                seconds.add_metric((name, member), waited_s)
        yield steps
        yield seconds


@final
class Pace:
    """When the pieces of one answer come."""

    def __init__(self, first: Histogram, between: Histogram) -> None:
        """Start the clock."""
        self._first, self._between = first, between
        self._last_s = time.monotonic()
        self._has_begun = False

    def note(self, num_tokens: int) -> None:
        """A piece of so many tokens came: the time since the one before is theirs in equal parts."""
        now_s = time.monotonic()
        passed_s, self._last_s = now_s - self._last_s, now_s
        if not self._has_begun:
            self._has_begun = True
            self._first.observe(passed_s)
            return
        for _ in range(num_tokens):
            self._between.observe(passed_s / num_tokens)
