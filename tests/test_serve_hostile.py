"""Hostile requests by raw sockets to the server as it runs, and what its document promises.

Whatever comes, the answer is below 500 or 503, in time, and the server goes on.
"""

import io
import json
import os
import select
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from PIL import Image
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from bundles import colour, tiny_bundle
from sevenfold.serve.connections import Silence

CLASSES = ("one", "two", "three")
INFER = "/v2/models/classifier/infer"
LARGEST = 200_000
SECONDS = 20.0
DRAW = np.random.default_rng(0)
PROGRAM = f"""
import sys
from pathlib import Path
from sevenfold import serve
limits = serve.Settings(
    sessions=1, seconds=1.0, silence=1.0, largest={LARGEST}, collect=Path(sys.argv[1], "kept")
)
serve.serve(Path(sys.argv[1]), limits, port=0, started=lambda one: print(one.url, flush=True))
"""


def picture(kind: str = "PNG", side: int = 12) -> bytes:
    file = io.BytesIO()
    pixels = np.broadcast_to(np.asarray(colour(1, 3), np.uint8), (side, side, 3))
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="module")
def port(tmp_path_factory) -> Iterator[int]:
    """Run the server in a process of its own, small limits and all."""
    bundle = tiny_bundle(tmp_path_factory.mktemp("served") / "b", CLASSES)
    command = [sys.executable, "-c", PROGRAM, str(bundle)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            number = int(process.stdout.readline().decode().rstrip("/\r\n").rpartition(":")[2])
            assert talk(number, head("GET", "/readyz"))[0] == 200
            yield number
            assert talk(number, head("GET", "/readyz"))[0] == 200
            process.terminate()
            _, said = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
    assert b"Traceback" not in said
    assert b"\x1b" not in said


def talk(port: int, *parts: bytes, pause: float = 0.0) -> tuple[int, bytes]:
    """Send bytes and return the status of the first answer, 0 for none, and all of it."""
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as wire:
        found = b""
        try:
            for part in parts:
                wire.sendall(part)
                if select.select([wire], [], [], pause)[0]:
                    break
            while not whole(found) and (part := wire.recv(65536)):
                found += part
        except ConnectionError:
            pass  # refused while it was still being sent
    line = found.split(b"\r\n", 1)[0].split()
    return int(line[1]) if len(line) > 1 else 0, found


def whole(answer: bytes) -> bool:
    begun, end, body = answer.partition(b"\r\n\r\n")
    found = [line[15:] for line in begun.lower().split(b"\r\n") if line.startswith(b"content-len")]
    return bool(end) and (not found or len(body) >= int(found[0]))


def head(method: str, path: str, *lines: str, host: str = "Host: localhost") -> bytes:
    return "\r\n".join((f"{method} {path} HTTP/1.1", host, *lines, "", "")).encode("latin-1")


def post(path: str, body: bytes, *lines: str) -> bytes:
    return head("POST", path, f"Content-Length: {len(body)}", *lines) + body


def infer(**changes) -> bytes:
    one = {"name": "image", "datatype": "UINT8", "shape": [1, 2, 2, 3], "data": [9] * 12}
    return post(INFER, json.dumps({"inputs": [one | changes]}).encode())


def bomb() -> bytes:
    file = io.BytesIO()
    Image.new("1", (16_000, 16_000)).save(file, "PNG")
    return file.getvalue()


GOOD = picture()
P = "/predict"
KINDS: dict[str, list[bytes]] = {
    "request lines": [
        b"GET\r\n\r\n", b"GET /\r\n\r\n", b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"\r\n\r\n\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\0" * 64,
        b"GET / / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"get / http/1.1\r\n\r\n",
        b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"GET \xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n", b"*" * 70_000 + b"\r\n\r\n",
    ],
    "headers": [
        head("GET", "/", "no colon"), head("GET", "/", ": empty"), head("GET", "/", "a b: c"),
        head("GET", "/", " folded: x", " y"), head("GET", "/", "X: a\x00b"),
        head("GET", "/", "X: \xff\xfe"), head("GET", "/", *[f"X-{n}: {n}" for n in range(500)]),
        head("GET", "/", "X: " + "a" * 100_000), head("GET", "/", "Expect: 200-maybe"),
    ],
    "duplicates": [
        head("GET", "/", "Host: localhost"), head("GET", "/", "Host: evil.example"),
        head("POST", P, "Content-Length: 3", "Content-Length: 4") + b"abcd",
        head("POST", P, "Content-Length: 3", "Transfer-Encoding: chunked") + b"abc",
        head("GET", "/", "Authorization: a", "Authorization: b"),
        head("GET", "/", "Origin: http://localhost", "Origin: http://evil.example"),
    ],
    "lengths": [
        head("POST", P, f"Content-Length: {n}")
        for n in ("-1", "1e3", "0x10", "9" * 30, "9" * 19, "+5", "5 5", "", "\xb2",
        str(LARGEST + 1))
    ],
    "oversized bodies": [
        post(P, bytes(LARGEST + 1)), post(INFER, b"[" * (LARGEST + 1)), post(P, bytes(3 * LARGEST)),
        post(P, bytes(10 * LARGEST)),
        head("POST", P, "Transfer-Encoding: chunked") + (b"ffff\r\n" + bytes(65535) + b"\r\n") * 12,
    ],
    "chunks": [
        head("POST", P, "Transfer-Encoding: chunked") + junk
        for junk in (
            b"zz\r\n\r\n", b"-5\r\nabcde\r\n", b"5\r\nab\r\n0\r\n\r\n", b"0\r\n\r\n", b"F" * 40,
            b"5;x=\x00\r\nabcde\r\n0\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"5\nabcde\n0\n\n",
        )
    ] + [head("POST", P, "Transfer-Encoding: gzip, chunked"), head("POST", P,
    "Transfer-Encoding: x")],
    "content types": [
        post(P, GOOD, f"Content-Type: {kind}")
        for kind in ("text/html", "multipart/form-data", "a" * 500, "image/png; charset=\xff",
        "*/*")
    ] + [
        post(P, b"--x\r\nContent-Disposition: form-data; name=f\r\n\r\nz\r\n--x--\r\n",
             "Content-Type: multipart/form-data; boundary=x"),
        post(P, GOOD, "Content-Encoding: gzip"), post(INFER, GOOD, "Content-Type: image/png"),
    ],
    "shapes": [
        infer(shape=shape)
        for shape in (
            [], [1], [1, 2, 2, 1], [0, 2, 2, 3], [-1, 2, 2, -3], [1.0, 2, 2, 3], ["1", 2, 2, 3],
            [True, 2, 2, 3], [2**70, 1, 1, 3], [1, 10**9, 10**9, 3], [33, 1, 1, 3], None, {},
            "1223",
            [[1], 2, 2, 3], [1, 2, 2, 3, 1], [1, 4, 1, 3.0001],
        )
    ],
    "datatypes": [
        infer(datatype=kind) for kind in ("FP32", "BYTES", "", None, 8, [], {}, "uint8", "\0",
        "\ud800")
    ],
    "data": [
        infer(data=data)
        for data in (
            [], [256] * 12, [-1] * 12, [0.5] * 12, [None] * 12, ["1"] * 12, [[]] * 12, {}, "x", 12,
            [2**64] * 12, [True] * 12, [[[[9] * 3] * 2] * 2] * 2, [{"a": 1}], [9] * 11, [9] * 13,
        )
    ],
    "JSON": [
        post(INFER, body)
        for body in (
            b"", b"{", b"[]", b"null", b"1", b'"x"', b"NaN", b"[" * 100_000, b"{" * 100_000,
            b'{"inputs":' * 20_000, b"9" * 100_000, b'{"inputs": [1e999]}', b"\xff\xfe{\0}\0",
            b"\0",
            b'{"inputs": [], "inputs": {}}', b'{"\xff": 1}', b"\xef\xbb\xbf{}",
        )
    ],
    "ids": [
        post(INFER, b'{"id": %s, "inputs": []}' % one)
        for one in (b'"\\ud800"', b'"\xff"', b'"\\u0000"', b"1", b"[]", b'"' + b"x" * 5000 + b'"')
    ],
    "outputs": [
        post(INFER, json.dumps({"inputs": [{"name": "image", "datatype": "UINT8",
             "shape": [1, 1, 1, 3], "data": [1, 2, 3]}], "outputs": wanted}).encode())
        for wanted in (
            "x", {}, [1], [None], [{}], [{"name": "x"}], [{"name": []}], [{"name": "logits"}] * 2,
            [{"name": "logits"}] * 1000, [[]],
        )
    ],
    "corrections": [
        post("/correct", body)
        for body in (b"", b"[]", b"{}", b'{"id": "../../x", "label": "one"}', b'{"id": 1}')
    ],
    "traversal": [
        head("GET", path)
        for path in (
            "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2fetc/passwd",
            "//etc/passwd",
            "/..\\..\\windows", "/%00", "/%ff%fe", "/%", "/\x7f", "/v2/models/../../x",
            "/./predict",
            "/v2/models/classifier%2finfer", "/predict/", "/" + "a/" * 5000, "/?" + "a=b&" * 5000,
            "/v2/models/%F0%9F%98%80", "/?token=%ff%00", "/v2/repository/index", "/static/..;/x",
        )
    ],
    "hosts": [
        head("GET", "/", host=f"Host: {name}")
        for name in (
            "evil.example", "127.0.0.1.evil.example", "", "[::1", "localhost:99999", "a b", "\xff",
            "localhost@evil.example", "evil.example#localhost", "127.0.0.1:80:80", "0x7f000001",
            "[]",
            "localhost\tx", "[v1.a]", "a" * 5000,
        )
    ] + [b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n"],
    "origins": [
        post(P, GOOD, f"Origin: {origin}")
        for origin in (
            "null", "https://evil.example", "http://localhost.evil.example", "file://", "\xff", "",
            "http://localhost:1", "http://", "chrome-extension://x", "http://user@localhost",
        )
    ],
    "methods": [
        head(method, path, "Content-Length: 0")
        for method in ("HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "FOO",
        "GET")
        for path in ("/", P, INFER, "*")
    ],
    "upgrades": [
        head("GET", "/", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: x"),
        head("GET", "/", "Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings",
        "HTTP2-Settings: AA"),
    ],
    "cut pictures": [
        post(P, picture(kind)[: int(share * len(picture(kind)))])
        for kind in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP")
        for share in (0.1, 0.6, 0.95)
    ],
    "no pictures": [
        post(P, body)
        for body in (
            b"", b"\0", b"<svg onload=alert(1)/>", b"%PDF-1.7", b"GIF89a", b"BM", b"II*\0",
            b"RIFF\xff\xff\xff\xffWEBPVP8X", b"\xff\xd8\xff\xe0", DRAW.bytes(5000),
            b"http://169.254.169.254/latest", b"file:///etc/passwd", b"P6 9 9 255 ",
            b"\x89PNG\r\n\x1a\n",
        )
    ],
    "bombs": [post(P, bomb()), post(P, bomb()[:200])],
    "pipelined": [
        post(P, GOOD) + b"garbage\r\n\r\n", head("GET", "/") * 20, post(P, GOOD) * 5,
        post(P, GOOD) + head("GET", "/", "X: \0"), head("GET", "/healthz",
        "Content-Length: 9") + b"x",
    ],
}  # fmt: skip


def honest(port: int) -> int:
    """Ask as people do: a server that is busy for a moment is asked again."""
    for _ in range(10):
        code, _ = talk(port, post(P, GOOD))
        if code not in (408, 503):
            break
        time.sleep(0.5)
    return code


def test_there_are_enough_hostile_requests() -> None:
    assert len(KINDS) >= 20
    assert sum(map(len, KINDS.values())) >= 200


@pytest.mark.parametrize("kind", KINDS)
def test_no_hostile_request_fails_or_stops_the_server(port: int, kind: str) -> None:
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda asked: talk(port, asked), KINDS[kind]))
    for asked, (code, told) in zip(KINDS[kind], answers, strict=True):
        assert code < 500 or code == 503, (asked[:100], told[:300])
        # Only a head that never ends gets no answer, or a body that is far too large.
        assert code or b"\r\n\r\n" not in asked.lstrip() or len(asked) > 3 * LARGEST, asked[:100]
        assert b"Traceback" not in told
        assert b"access-control" not in told.lower()
    assert honest(port) == 200


def test_who_sends_drop_by_drop_is_given_up(port: int) -> None:
    slow = [bytes([one]) for one in post(P, GOOD)]
    begun = time.monotonic()
    ways = {
        "head": (slow[:60], 0),
        "nothing": ([b""], 0),
        "body": ([post(P, GOOD)[:-40], *slow[-40:-1]], 408),
        "chunks": ([head("POST", P, "Transfer-Encoding: chunked"), *[b"1\r\nx\r\n"] * 60], 408),
        "a body that nobody reads": (
            [head("GET", "/healthz", "Content-Length: 99"), *slow[:60]],
            200,
        ),
    }
    with ThreadPoolExecutor(len(ways)) as pool:
        found = pool.map(lambda way: talk(port, *way[0], pause=0.1)[0], ways.values())
    assert dict(zip(ways, found, strict=True)) == {name: code for name, (_, code) in ways.items()}
    assert time.monotonic() - begun < SECONDS
    assert honest(port) == 200


def test_whoever_asked_before_the_end_is_answered(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "b", CLASSES)
    program = PROGRAM.replace("sessions=1, seconds=1.0", "sessions=1, queue=300, seconds=20.0")
    with subprocess.Popen(
        [sys.executable, "-c", program, str(bundle)], stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            number = int(process.stdout.readline().decode().rstrip("/\r\n").rpartition(":")[2])
            talk(number, head("GET", "/readyz"))
            wires = [socket.create_connection(("127.0.0.1", number), SECONDS) for _ in range(200)]
            for wire in wires:
                wire.sendall(post(P, GOOD))
            process.terminate()
            found = [b"".join(iter(lambda: wire.recv(65536), b"")) for wire in wires]  # noqa: B023
            assert process.wait(SECONDS) == (0 if os.name == "posix" else 1)
        finally:
            process.kill()
    if os.name == "posix":  # Windows knows no way to ask a process to end
        assert {answer.split(b" ", 2)[1] for answer in found} == {b"200"}
        assert all(b"connection: close" in answer.lower() for answer in found)


def test_a_body_that_is_too_large_is_heard_out_so_that_its_sender_sees_why(port: int) -> None:
    for size in (LARGEST + 1, 2 * LARGEST, 3 * LARGEST):
        code, told = talk(port, post(P, bytes(size)))
        assert code == 413
        assert b"larger than 200,000 bytes" in told


class Connection:
    """Look like one of uvicorn's."""

    def __init__(self, cycle: object, unsent: int = 0) -> None:
        self.cycle, self.transport, self.ended, self.unsent = cycle, self, False, unsent

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def abort(self) -> None:
        self.ended = True


def test_silence_is_counted_from_the_latest_answer() -> None:
    done, running = (
        SimpleNamespace(response_complete=True),
        SimpleNamespace(response_complete=False),
    )
    new, idle, busy, again = (Connection(cycle) for cycle in (None, done, running, done))
    silence = Silence(10)
    reading, stuck = Connection(running, 9_000), Connection(done, 9_000)
    for second in range(25):
        reading.transport.unsent -= 100 if second % 9 == 0 else 0
        stuck.transport.unsent += 100
        silence.end([reading, stuck], second)
        assert stuck.ended == (second >= 10)
    assert not reading.ended
    silence = Silence(10)
    for second in range(25):
        again.cycle = SimpleNamespace(response_complete=True) if second % 9 == 0 else again.cycle
        silence.end([new, idle, busy, again], second)
        assert (new.ended, idle.ended) == (second >= 10, second >= 10)
    assert not busy.ended
    assert not again.ended


@pytest.mark.parametrize("mode", GenerationMode)
def test_the_document_keeps_its_word(port: int, mode: GenerationMode) -> None:
    address, statuses = f"http://127.0.0.1:{port}", Counter()
    with urllib.request.urlopen(f"{address}/openapi.json", timeout=SECONDS) as reply:
        document = reply.read().replace(b'"maxLength":%d' % LARGEST, b'"maxLength":99')
    for one in schemathesis.openapi.from_dict(json.loads(document)).get_all_operations():
        operation = one.ok()
        if mode is GenerationMode.NEGATIVE and not operation.body:
            continue  # what takes nothing can be given nothing wrong

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(
            max_examples=20,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        def answers(case) -> None:
            reply = case.call(base_url=address)
            statuses[reply.status_code] += 1
            assert reply.status_code < 500 or reply.status_code == 503
            kept = [status_code_conformance, response_schema_conformance]
            case.validate_response(reply, checks=kept)

        answers()
    assert statuses.total() > 40
    assert statuses[200] or mode is GenerationMode.NEGATIVE
