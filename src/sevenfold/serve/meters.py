"""Count for Prometheus what the server does.

Labels are addresses that exist and classes of the model: a client cannot add any.
"""

import time
from collections.abc import Callable, Collection
from threading import Lock
from typing import Final, final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sevenfold.bundles import Bundle
from sevenfold.drift import Tally
from sevenfold.predict import Seen

_DRIFT: Final = {
    "mix_distance": "Total variation between classes answered here and when the model was made",
    "mix_p": "Chance of such a distance between the classes if nothing changed",
    "distance_shift": "Largest gap between distances from training here and then (Kolmogorov)",
    "distance_p": "Chance of such a gap between the distances if nothing changed",
}
_SECONDS: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


@final
class Meters:
    """Hold the counters of one server.

    Args:
        bundle: whose classes answers can name; all are there from the start, at zero.
        waiting: says how many requests have a place now.
    """

    def __init__(self, bundle: Bundle, waiting: Callable[[], int]) -> None:
        self._registry = registry = CollectorRegistry()
        self._lock = Lock()
        self._tally = Tally(bundle.reference, bundle.classes)
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
        self._unsure = Counter("sevenfold_not_sure", "Pictures not sure", registry=registry)
        self._lost = Counter(
            "sevenfold_not_kept",
            "Pictures that the collection had no room for, or could not write",
            registry=registry,
        )
        self._unlike = Counter(
            "sevenfold_unlike", "Pictures unlike anything trained on", registry=registry
        )
        shares = Gauge(
            "sevenfold_reference_share",
            "How often a class was answered when the model was made",
            ("label",),
            registry=registry,
        )
        self._drift = {
            name: Gauge(f"sevenfold_{name}", about, registry=registry)
            for name, about in _DRIFT.items()
        }
        held = bundle.reference
        for label, count in zip(bundle.classes, held.answers.tolist(), strict=True):
            self._answers.labels(label)
            if held.pictures:
                shares.labels(label).set(count / held.pictures)

    def answered(self, label: str, seen: Seen) -> None:
        """Count one picture."""
        self._answers.labels(label).inc()
        self._unsure.inc(not seen.sure)
        self._unlike.inc(seen.unlike)
        with self._lock:
            self._tally.add(label, seen.distance, seen.unlike)

    def kept(self, whether: bool) -> None:
        """Count a picture that was to be collected as lost if it could not be kept."""
        self._lost.inc(not whether)

    def text(self) -> bytes:
        """Write all counters in Prometheus' text format."""
        with self._lock:
            told = self._tally.to_json()
        for name, gauge in self._drift.items():
            gauge.set(told[name])
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
