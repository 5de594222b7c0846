"""Run the server: its socket, its addresses, and its end."""

import contextlib
import importlib
import io
import ipaddress
import os
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import uvicorn

from sevenfold import predict
from sevenfold.errors import ResourceError, UsageError
from sevenfold.serve.app import Settings, application

_CONNECTIONS = 1000


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
    """Serve a run or a bundle until SIGINT or SIGTERM; what has begun is finished first.

    Args:
        model: a RUN, or a copy of the bundle in it.
        settings: `sessions` 0 is one for each core; `lan` replaces `token` and adds names.
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
            sessions=settings.sessions or os.cpu_count() or 1,
            token=secrets.token_urlsafe(16) if lan else settings.token,
            names=settings.names | {host.lower(), name, f"{name}.local"},
        )
        config = uvicorn.Config(
            application(predictor, settings),
            log_level="warning",
            access_log=False,
            server_header=False,
            ws="none",
            limit_concurrency=_CONNECTIONS,
            timeout_graceful_shutdown=int(settings.seconds) + 1,
        )
        started(_address(listening, settings.token, lan=lan))
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn has shut down by then
            uvicorn.Server(config).run(sockets=[listening])


def _socket(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(where[:2], family=family, backlog=2048)
    except (socket.gaierror, UnicodeError) as error:
        raise UsageError(f"--host {host}: no such address", "use 127.0.0.1, or --lan") from error
    except OSError as error:
        raise ResourceError(
            f"cannot listen at {host}, port {port}: {error}",
            "choose another --port, or 0 for any free one",
        ) from error


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
