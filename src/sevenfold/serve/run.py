"""Run the server: its socket, its addresses, and its end."""

import asyncio
import contextlib
import errno
import importlib.util
import io
import ipaddress
import secrets
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from sevenfold import predict
from sevenfold.cores import usable_cores
from sevenfold.errors import ResourceError, UsageError
from sevenfold.serve.app import Settings, application
from sevenfold.serve.connections import Drain, Silence

_CONNECTIONS = 1000  # beside those whose pictures run or wait
_FILES = 200  # that are open beside connections


@final
@dataclass(frozen=True, slots=True)
class Address:
    """Say where a server is reached.

    Args:
        url: what to open, with the token where there is one.
        code: the same as a QR code made of characters; empty if none can be drawn.
        open: whether other machines reach it without a token.
    """

    url: str
    code: str
    open: bool


def serve(
    model: Path,
    settings: Settings,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    lan: bool = False,
    started: Callable[[Address], None],
) -> None:
    """Serve a run or a bundle until SIGINT or SIGTERM; whoever has asked is answered first.

    Args:
        model: a RUN, or a copy of the bundle in it.
        settings: `sessions` 0 is one for each core; `lan` replaces `token`, and `host` and this
            machine's own are added to `names`.
        host: to listen at.
        port: to listen at; 0 is any free one.
        lan: listen at every address, for whoever brings a token that is made anew.
        started: is told the address once connections are accepted.

    Raises:
        UsageError: `host` is no address of this machine, or there is no such model.
        ModelError: the bundle is damaged.
        ResourceError: the port is taken.
    """
    predictor = predict.load(model, threads=1)
    listening = _socket("0.0.0.0" if lan else host, port)
    with contextlib.closing(listening):
        name = socket.gethostname().lower()
        settings = replace(
            settings,
            sessions=settings.sessions or usable_cores(),
            token=secrets.token_urlsafe(16) if lan else settings.token,
            names=settings.names | {host.lower(), name, f"{name}.local"},
        )
        app = application(predictor, settings)
        started(_address(listening, settings.token, lan=lan))
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn has shut down by then
            asyncio.run(_answering(app, settings, listening))


async def _answering(app: ASGIApp, settings: Settings, listening: socket.socket) -> None:
    """Answer until a signal comes, and then whoever has asked already."""
    drain, silence = Drain(app), Silence(settings.silence)
    connections = _CONNECTIONS + settings.sessions + settings.queue
    _allow_files(connections + _FILES)
    ending: list[asyncio.Task[None]] = []

    async def look() -> None:
        silence.end(server.server_state.connections, time.monotonic())

    async def finish() -> None:
        await drain.finish(settings.seconds)
        server.should_exit = True

    def end() -> None:
        server.should_exit = server.force_exit = drain.begun  # the second time at once
        ending.append(asyncio.create_task(finish()))

    async def entered(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            # By now uvicorn has put its own handlers in place, and has accepted nobody yet.
            # Windows has none of these.
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                for name in (signal.SIGINT, signal.SIGTERM):
                    asyncio.get_running_loop().add_signal_handler(name, end)
        await drain(scope, receive, send)

    config = uvicorn.Config(
        entered,
        http="h11",
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=connections,
        timeout_graceful_shutdown=int(settings.seconds) + 1,
        callback_notify=look,
        timeout_notify=0,
    )
    server = uvicorn.Server(config)
    await server.serve(sockets=[listening])


def _allow_files(count: int) -> None:
    if importlib.util.find_spec("resource") is None:  # Windows has no such bound
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _socket(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        made = socket.create_server(where[:2], family=family, backlog=2048)
    except (socket.gaierror, UnicodeError) as error:
        raise UsageError(f"--host {host}: no such address", "use 127.0.0.1, or --lan") from error
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            raise UsageError(
                f"--host {host} is no address of this machine", "use 127.0.0.1, or --lan"
            ) from error
        raise ResourceError(
            f"cannot listen at {host}, port {port}: {error}",
            "choose another --port, or 0 for any free one",
        ) from error
    # asyncio sends at once only where a socket says that it is TCP's. The body of an answer
    # would else wait, 40 ms on Linux, until its head is acknowledged.
    return socket.socket(family, made.type, socket.IPPROTO_TCP, fileno=made.detach())


def _address(listening: socket.socket, token: str, *, lan: bool) -> Address:
    host, port = listening.getsockname()[:2]
    host = _outward() if lan else host
    where = f"[{host}]" if ":" in host else host
    url = f"http://{where}:{port}/" + (f"?token={token}" if token else "")
    reachable = not ipaddress.ip_address(host).is_loopback
    return Address(url, _code(url) if lan else "", reachable and not token)


def _outward() -> str:
    # Connecting a datagram socket sends nothing; it only chooses the interface.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def _code(url: str) -> str:
    try:
        segno = importlib.import_module("segno")
    except ImportError:
        return ""
    with io.StringIO() as text:
        segno.make(url, micro=False).terminal(out=text, compact=True)
        return text.getvalue()
