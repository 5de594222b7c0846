"""Count for Prometheus what the server does.

Labels are addresses that exist and classes of the model: a client cannot add any.
"""

import time
from collections.abc import Callable, Collection, Iterable
from typing import Final, final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SECONDS: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


@final
class Meters:
    """Hold the counters of one server.

    Args:
        classes: that answers can name; all are there from the start, at zero.
        waiting: says how many requests have a place now.
    """

    def __init__(self, classes: Iterable[str], waiting: Callable[[], int]) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "sevenfold_requests",
            "Requests by address and status",
            ("path", "status"),
            registry=registry,
        )
        self._seconds = Histogram(
            "sevenfold_request_seconds",
            "From a request to its answer",
            ("path",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._answers = Counter(
            "sevenfold_answers", "Pictures by the class answered", ("label",), registry=registry
        )
        Gauge(
            "sevenfold_places_taken", "Requests that are read, wait or run", registry=registry
        ).set_function(waiting)
        for label in classes:
            self._answers.labels(label)

    def answered(self, label: str) -> None:
        """Count one picture."""
        self._answers.labels(label).inc()

    def text(self) -> bytes:
        """Write all counters in Prometheus' text format."""
        return generate_latest(self._registry)

    def around(self, app: ASGIApp, paths: Collection[str]) -> ASGIApp:
        """Count and time the requests to `app`; addresses not in `paths` count as one."""

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            path = scope["path"] if scope["path"] in paths else "other"
            status, begun = 500, time.perf_counter()

            async def noting(message: Message) -> None:
                nonlocal status
                status = message.get("status", status)
                await send(message)

            try:
                await app(scope, receive, noting)
            finally:
                self._requests.labels(path, str(status)).inc()
                self._seconds.labels(path).observe(time.perf_counter() - begun)

        return counted
