"""Run calls in processes of this machine: JSON in, JSON out, and none is lost to a kill."""

import importlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Protocol, TextIO

from sevenfold import errors
from sevenfold.errors import ResourceError, SevenfoldError, lacks

Json = Mapping[str, Any]
Function = Callable[..., Json]
"""Takes a call and, where somebody listens, whom to tell how far it is, as `progress` has it."""
Heard = Callable[[int, str, int, int], None]
"""Is told the number of a call, and how far it is: stage, done and total."""
TRIES: Final = 3
"""Processes that may end while they work on one call, before it is given up."""
_CORES_EACH: Final = 8
_BLINK_SECONDS: Final = 0.2
"""The shortest time between two words of a call on how far it is."""


def threads_each(cores: int) -> int:
    """Return the threads of each of several trainings side by side: one for every eight cores.

    Trainings side by side waste less than the threads of one, whose layers are small.
    """
    return max(1, cores // _CORES_EACH)


class Engine(Protocol):
    """Make calls somewhere, several at a time."""

    @property
    def workers(self) -> int:
        """How many calls are made at a time."""
        ...

    def run(
        self, calls: Sequence[Json], function: str, heard: Heard | None = None
    ) -> Iterator[tuple[int, Json]]:
        """Make calls, and yield the number of each with its result as it ends.

        Args:
            calls: in the order in which they begin.
            function: as `module:function`; it takes a `Progress`, too, where somebody listens.
            heard: is told how far each call is, where an engine can hear that.

        Raises:
            SevenfoldError: as the function raised it, or ResourceError where none answers.
        """
        ...


@dataclass(frozen=True)
class Inline:
    """Make one call after the other in this process.

    Args:
        functions: that stand for those of their names.
    """

    functions: Mapping[str, Function] = field(default_factory=dict)
    workers: int = 1

    def run(
        self, calls: Sequence[Json], function: str, heard: Heard | None = None
    ) -> Iterator[tuple[int, Json]]:
        """Make calls in their order, see `Engine`."""
        called = self.functions.get(function) or named(function)
        for number, call in enumerate(calls):
            listener = (partial(heard, number),) if heard else ()
            yield number, json.loads(json.dumps(called(call, *listener)))


@dataclass(frozen=True)
class Local:
    """Make calls in processes of this machine.

    Args:
        workers: processes, 1 or more.
        threads: of each, 1 or more.
    """

    workers: int
    threads: int

    def run(
        self, calls: Sequence[Json], function: str, heard: Heard | None = None
    ) -> Iterator[tuple[int, Json]]:
        """Make calls in processes that are ended with it, see `Engine`. Starts processes."""
        waiting: queue.SimpleQueue[tuple[int, str]] = queue.SimpleQueue()
        for number, call in enumerate(calls):
            waiting.put((number, json.dumps(call)))
        answers: queue.SimpleQueue[tuple[int, Json | BaseException]] = queue.SimpleQueue()
        words = (function, *(("told",) if heard else ()))
        crew = [
            _Worker(words, self.threads, waiting, answers)
            for _ in range(min(self.workers, len(calls)))
        ]
        left = len(calls)
        try:
            for worker in crew:
                worker.start()
            while left:
                number, found = _next(answers)
                if isinstance(found, BaseException):
                    raise found
                if heard and "told" in found:
                    heard(number, *found["told"])
                    continue
                left -= 1
                yield number, result_of(found)
        finally:
            for worker in crew:
                worker.end()


def _next(
    answers: "queue.SimpleQueue[tuple[int, Json | BaseException]]",
) -> tuple[int, Json | BaseException]:
    """Wait for an answer; in short steps, since Windows hears Ctrl-C between them only."""
    while True:
        try:
            return answers.get(timeout=0.5)
        except queue.Empty:
            continue


class _Worker:
    """Feed one process with calls, and start another where it ends."""

    def __init__(
        self,
        words: Sequence[str],
        threads: int,
        waiting: "queue.SimpleQueue[tuple[int, str]]",
        answers: "queue.SimpleQueue[tuple[int, Json | BaseException]]",
    ) -> None:
        self._words = words
        self._environment = {
            **os.environ,
            **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads)),
            "OMP_WAIT_POLICY": "PASSIVE",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
        self._waiting, self._answers = waiting, answers
        self._process: subprocess.Popen[str] | None = None
        self._ended = False
        self._lock = threading.Lock()

    def start(self) -> None:
        """Begin, in a thread of its own."""
        threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        """Make calls until none waits."""
        while True:
            try:
                number, text = self._waiting.get_nowait()
            except queue.Empty:
                return
            try:
                self._answers.put((number, self._answered(number, text)))
            except BaseException as error:
                self._answers.put((number, error))
                return

    def _answered(self, number: int, text: str) -> Json:
        code: int | None = None
        for _ in range(TRIES):
            process = self._at_hand()
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                process.stdin.write(f"{text}\n")
                process.stdin.flush()
                while line := process.stdout.readline():
                    answer: Json = json.loads(line)
                    if "told" not in answer:
                        return answer
                    self._answers.put((number, answer))
            except (OSError, json.JSONDecodeError):  # a kill may tear its last line
                pass
            code = process.wait()
            if self._ended:
                break
        raise ResourceError(
            f"a process that was at work ended {TRIES} times, the last time with {code}",
            "free memory, or give --workers 1, so that one process runs at a time",
        )

    def _at_hand(self) -> "subprocess.Popen[str]":
        with self._lock:
            if self._ended:
                raise ResourceError("the work was ended", "run the same command again")
            if self._process is None or self._process.poll() is not None:
                self._process = subprocess.Popen(
                    [
                        sys.executable,
                        "-P",  # a photo folder that is worked in may hold a json.py
                        "-c",
                        f"from {__name__} import serve; serve()",
                        *self._words,
                    ],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    encoding="utf-8",
                    env=self._environment,
                )
            return self._process

    def end(self) -> None:
        """End the process, whatever it does."""
        with self._lock:
            self._ended = True
            if self._process is not None:
                self._process.kill()
                self._process.wait()
                for pipe in (self._process.stdin, self._process.stdout):
                    if pipe:
                        pipe.close()


def named(function: str) -> Function:
    """Find the function that `module:function` names."""
    module, _, name = function.partition(":")
    found: Function = getattr(importlib.import_module(module), name)
    return found


def answered(function: Function, *given: Any) -> Json:
    """Make a call and wrap what came of it: a result, a failure of `errors`, or a bug."""
    try:
        return {"result": function(*given)}
    except Exception as error:
        failed = error if isinstance(error, SevenfoldError) else lacks(error)
        if failed is None:
            return {"bug": traceback.format_exc()}
        return {"failed": type(failed).__name__, "problem": failed.problem, "cure": failed.cure}


def result_of(answer: Json) -> Json:
    """Unwrap what `answered` wrapped.

    Raises:
        SevenfoldError: as it was raised there.
        RuntimeError: what was raised there is a bug.
    """
    if "bug" in answer:
        raise RuntimeError(str(answer["bug"]))
    if "failed" in answer:
        kind = getattr(errors, str(answer["failed"]))
        raise kind(str(answer["problem"]), str(answer["cure"]))
    result: Json = answer["result"]
    return result


def serve() -> None:
    """Answer calls, one a line, until stdin ends: the main function of a worker process."""
    # The process that started this one decides what Ctrl-C means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Whatever a library prints must not end up between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    os.dup2(2, 1)
    calls: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin, calls), daemon=True).start()
    function, listened = named(sys.argv[1]), len(sys.argv) > 2

    def say(answer: Json) -> None:
        answers.write(f"{json.dumps(answer)}\n")
        answers.flush()

    while True:
        call = json.loads(calls.get())
        say(answered(function, call, _Teller(say)) if listened else answered(function, call))


class _Teller:
    """Say how far a call is, but not more often than anybody could see."""

    def __init__(self, say: Callable[[Json], None]) -> None:
        self._say = say
        self._said = -_BLINK_SECONDS

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Report, see `progress.Progress`."""
        now = time.monotonic()
        if now - self._said >= _BLINK_SECONDS or done == total:
            self._said = now
            self._say({"told": [stage, done, total]})


def _listen(stream: TextIO, calls: "queue.SimpleQueue[str]") -> None:
    """Pass calls on; where nobody is left to answer to, nothing is worth finishing."""
    for line in stream:
        calls.put(line)
    os._exit(0)
