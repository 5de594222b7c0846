"""Serve a model over HTTP."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import Parameter
from cyclopts.validators import Number

from sevenfold.cli.options import Count, app
from sevenfold.errors import UsageError, installing
from sevenfold.terminal import warn

if TYPE_CHECKING:
    from sevenfold.serve import Address

LOOPBACK: Final = "127.0.0.1"


@app.command
def serve(
    model: Path,
    /,
    *,
    host: str = LOOPBACK,
    allow_host: tuple[str, ...] = (),
    port: Annotated[int, Parameter(validator=Number(gte=0, lte=65535))] = 8000,
    lan: bool = False,
    sessions: Count = 0,
    queue: Count = 16,
    collect: Path | None = None,
    collect_megabytes: Annotated[int, Parameter(validator=Number(gte=1))] = 500,
) -> None:
    """Answer pictures over HTTP, with a page for people and JSON for programs.

    Args:
        model: a run, or a copy of the bundle in it.
        host: where to listen; without it only this machine is answered.
        allow_host: another name that requests may call this server by, such as that of the
            proxy before it; may be repeated.
        port: where to listen; 0 is any free one.
        lan: also answer other machines of the network, if they send the token that is printed.
        sessions: pictures answered at a time; 0 is one for each core.
        queue: pictures that may wait; further ones get 503 and are told when to try again.
        collect: a folder that keeps pictures, answers and corrections for training.
        collect_megabytes: most that this folder may hold.
    """
    from sevenfold import serve as server

    if lan and host != LOOPBACK:
        raise UsageError(f"--lan listens everywhere, --host {host} there", "give one of the two")
    settings = server.Settings(
        sessions=sessions,
        queue=queue,
        collect=collect,
        collect_bytes=1_000_000 * collect_megabytes,
        names=frozenset(map(_name, allow_host)),
    )
    server.serve(model, settings, host=host, port=port, lan=lan, started=_started)


def _name(host: str) -> str:
    """Return the name of a host in small letters; refuse what no Host header can match."""
    if not re.fullmatch(r"[\w-]+(\.[\w-]+)*", host, re.ASCII):
        raise UsageError(
            f"--allow-host {host!r} is no name of a host", "give it alone, such as photos.example"
        )
    return host.lower()


def _started(address: "Address") -> None:
    if address.code:
        print(address.code)
    print(address.url, flush=True)
    if "token=" in address.url and not address.code:
        warn(f"no QR code: the library segno is not installed; {installing('qr')}")
    if address.open:
        warn("whoever reaches this address is answered; --lan asks for a token")
    warn("stop with Ctrl-C")
