"""What Prometheus is told. Each service has its own registry."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

if TYPE_CHECKING:
    from visavis.search.index import Stage

_SECONDS = (0.005, 0.01, 0.02, 0.04, 0.06, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_STAGE_SECONDS = (0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counts and times of one service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "visavis_requests", "Requests answered.", ("route", "method", "status"),
            registry=self.registry,
        )  # fmt: skip
        self.seconds = Histogram(
            "visavis_request_seconds", "Seconds until the end of the answer.", ("route",),
            registry=self.registry, buckets=_SECONDS,
        )  # fmt: skip
        self.stages = Histogram(
            "visavis_stage_seconds", "Seconds of each stage of a search.", ("stage",),
            registry=self.registry, buckets=_STAGE_SECONDS,
        )  # fmt: skip
        self.batches = Histogram(
            "visavis_batch_queries", "Queries that were scored together.",
            registry=self.registry, buckets=(1, 2, 4, 8, 16, 32, 64),
        )  # fmt: skip
        self.in_flight = Gauge(
            "visavis_requests_in_flight", "Requests under way.", registry=self.registry
        )

    def watch(self, name: str, what: str, value: Callable[[], float]) -> None:
        """Show a value that is read whenever somebody looks."""
        Gauge(name, what, registry=self.registry).set_function(value)

    def staged(self, stages: Iterable[Stage]) -> None:
        """Count the stages of an answer."""
        for stage in stages:
            self.stages.labels(stage.name).observe(stage.seconds)

    def text(self) -> bytes:
        """Everything, as Prometheus reads it."""
        return generate_latest(self.registry)
