"""Time the stages of a job."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Clock:
    """Note how long each stage takes."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.stages: list[dict[str, Any]] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what happens inside."""
        began = time.perf_counter()
        yield
        self.stages.append({"stage": name, "seconds": time.perf_counter() - began})

    def noted(self) -> dict[str, float]:
        """Return the seconds of each stage, also where it came in parts."""
        found: dict[str, float] = {}
        for line in self.stages:
            found[line["stage"]] = found.get(line["stage"], 0.0) + line["seconds"]
        return found

    @property
    def seconds(self) -> float:
        """Seconds since the clock was made."""
        return time.perf_counter() - self.began
