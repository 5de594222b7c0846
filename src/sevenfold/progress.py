"""Say on stderr how far long work is and how much time is left."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TextIO


class Progress(Protocol):
    """Receive a stage's name, how much of it is done and how much there is."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Report; a total of 0 means unknown."""
        ...


def silent(stage: str, done: int, total: int) -> None:
    """Do nothing."""


QUIET_SECONDS = 10.0
"""The shortest time between two lines where no terminal is."""
BLINK_SECONDS = 0.1
"""The shortest time between two drawings of the bar."""
_BAR = 24


@dataclass
class _Stage:
    name: str
    started: float
    first_done: int
    finished: bool = False


class Lines:
    """Draw a bar with the time left on a terminal, or print a line every ten seconds.

    Only plain characters are written, never a colour, so `NO_COLOR` holds
    whatever it says. It may be called from any thread. A stage that is taken up
    again in the middle (a resumed run) is timed from there.

    Args:
        stream: where to write, usually stderr.
        clock: seconds that only grow.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._lock = threading.Lock()
        self._stage = _Stage("", 0.0, 0)
        self._terminal = stream.isatty()
        self._written = 0.0
        self._width = 0

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Report that `done` of `total` are done; draws only when it is time to."""
        with self._lock:
            now = self._clock()
            again = self._stage.finished and done < total
            if stage != self._stage.name or done < self._stage.first_done or again:
                self._begin(stage, done, now)
            if self._stage.finished:
                return
            self._stage.finished = 0 < total <= done
            if self._terminal:
                self._draw(done, total, now)
            elif now - self._written >= QUIET_SECONDS or _is_message(done, total):
                self._written = now
                self._stream.write(f"{self._text(done, total, now)}\n")
                self._stream.flush()

    def _begin(self, stage: str, done: int, now: float) -> None:
        if self._terminal and self._width:
            self._stream.write("\n")
            self._width = 0
        if self._terminal:
            self._written = now - BLINK_SECONDS
        elif not self._stage.name:
            self._written = now
        self._stage = _Stage(stage, now, done)

    def _draw(self, done: int, total: int, now: float) -> None:
        finished = self._stage.finished
        if not finished and now - self._written < BLINK_SECONDS:
            return
        self._written = now
        filled = _BAR * min(done, total) // total if total > 0 else 0
        bar = f"[{'#' * filled}{'.' * (_BAR - filled)}] " if total > 0 else ""
        line = bar + self._text(done, total, now)
        self._stream.write(f"\r{line.ljust(self._width)}")
        self._width = len(line)
        if finished:
            self._stream.write("\n")
            self._width = 0
        self._stream.flush()

    def _text(self, done: int, total: int, now: float) -> str:
        stage = self._stage
        if _is_message(done, total):
            return stage.name
        counted = f"{done:,} of {total:,}" if total > 0 else f"{done:,}"
        elapsed = now - stage.started
        if 0 < total <= done:
            return f"{stage.name}: {counted} in {duration(elapsed)}"
        advanced = done - stage.first_done
        if total <= 0 or advanced <= 0 or elapsed <= 0:
            return f"{stage.name}: {counted}"
        return f"{stage.name}: {counted}, {duration(elapsed * (total - done) / advanced)} left"


def _is_message(done: int, total: int) -> bool:
    """Tell whether a stage says all by its name, as what an epoch came to."""
    return total <= 0 and not done


def duration(seconds: float) -> str:
    """Write a time the way people say it.

    >>> duration(7.6), duration(75), duration(3725)
    ('8 s', '1 min 15 s', '1 h 02 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
