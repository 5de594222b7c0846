"""Ask a server, or the bare graph, about pictures; `serve.py` starts this as a process.

`ask PORT FOLDER CLIENTS COUNT` sends COUNT pictures by so many connections that stay
open; `bare BUNDLE FOLDER THREADS COUNT` decodes and runs them in so many threads;
`burst PORT FOLDER COUNT PID` sends COUNT at once, each by a connection of its own, and
stops the server when the first is answered. Each prints one JSON object. Written on
sockets alone, as a client that costs more would be measured with the server.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

SECONDS = 120.0


def pictures(folder: str) -> list[bytes]:
    """Read the pictures of a folder."""
    return [path.read_bytes() for path in sorted(Path(folder).rglob("*.jpg"))]


def request(picture: bytes) -> bytes:
    """Write the request that sends a picture."""
    head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(picture)}\r\n\r\n"
    return head.encode() + picture


def length(head: bytes) -> int:
    """Return the length of an answer's body."""
    lines = [line.split(b":", 1) for line in head.lower().split(b"\r\n")[1:]]
    return next((int(line[1]) for line in lines if line[0] == b"content-length"), 0)


def status(answer: bytes) -> int:
    """Return the status of a whole answer; 0 if it is not whole."""
    head, end, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]) if end and len(body) == length(head) else 0


def answered(wire: socket.socket, asked: bytes) -> int:
    """Send a request and read its whole answer."""
    wire.sendall(asked)
    found = b""
    while not status(found):
        part = wire.recv(65536)
        if not part:
            raise ConnectionError("the server closed the connection")
        found += part
    return status(found)


def shared(count: int, workers: int, one: Callable[[int, int], None]) -> dict[str, Any]:
    """Share out so many calls of `one(worker, index)` and time each and all."""
    left = iter(range(count))
    times: list[float] = []

    def work(worker: int) -> None:
        for index in left:  # next() of a range is atomic
            begun = time.perf_counter()
            one(worker, index)
            times.append(1000 * (time.perf_counter() - begun))

    begun = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, range(workers)))
    return {"seconds": time.perf_counter() - begun, "milliseconds": times}


def ask(port: int, folder: str, clients: int, count: int) -> dict[str, Any]:
    """Send pictures by connections that stay open."""
    asked = [request(picture) for picture in pictures(folder)]
    address = ("127.0.0.1", port)
    wires = [socket.create_connection(address, timeout=SECONDS) for _ in range(clients)]
    found: Counter[int] = Counter()
    for wire in wires:  # to warm up
        answered(wire, asked[0])

    def one(worker: int, index: int) -> None:
        found[answered(wires[worker], asked[index % len(asked)])] += 1

    return {**shared(count, clients, one), "statuses": found}


def bare(bundle: str, folder: str, threads: int, count: int) -> dict[str, Any]:
    """Decode pictures and run the graph on them, and nothing else."""
    import onnxruntime

    from sevenfold import image

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # pictures run side by side, which is the faster way
    session = onnxruntime.InferenceSession(
        Path(bundle, "model.onnx").read_bytes(), options, providers=["CPUExecutionProvider"]
    )
    data = pictures(folder)

    def one(_: int, index: int) -> None:
        picture = data[index % len(data)]
        pixels = image.decode(picture, name="it", max_pixels=image.SERVING_PIXELS)
        session.run(["probabilities"], {"image": pixels[None]})

    for index in range(3 * threads):
        one(0, index)
    return shared(count, threads, one)


def burst(port: int, folder: str, count: int, server: int) -> dict[str, Any]:
    """Send pictures all at once, and stop the server when the first is answered."""
    asked = [request(picture) for picture in pictures(folder)]
    wires = [socket.create_connection(("127.0.0.1", port), timeout=SECONDS) for _ in range(count)]
    for index, wire in enumerate(wires):
        wire.sendall(asked[index % len(asked)])
    answers = dict.fromkeys(wires, b"")
    found: Counter[str] = Counter()
    end, told = time.monotonic() + SECONDS, False
    with selectors.DefaultSelector() as waiting:
        for wire in wires:
            waiting.register(wire, selectors.EVENT_READ)
        while waiting.get_map() and time.monotonic() < end:
            for key, _ in waiting.select(1):
                wire = key.fileobj
                assert isinstance(wire, socket.socket)
                try:
                    part = wire.recv(65536)
                except ConnectionError:
                    part = b""
                answers[wire] += part
                if code := status(answers[wire]) or not part:
                    found[str(code) if code is not True else "cut"] += 1
                    waiting.unregister(wire)
                if code and not told:
                    os.kill(server, signal.SIGTERM)
                    told = True
        found["silent"] += len(waiting.get_map())
    return {"statuses": +found}


def main(way: str, *words: str) -> None:
    """Do what was asked and print what was found."""
    ways: dict[str, Callable[..., dict[str, Any]]] = {"ask": ask, "bare": bare, "burst": burst}
    print(json.dumps(ways[way](*(int(w) if w.isdecimal() else w for w in words))))


if __name__ == "__main__":
    main(*sys.argv[1:])
