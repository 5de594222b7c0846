"""Let through only what was meant for this server and may use it.

A page elsewhere can make a browser send requests here. Two headers that it cannot
forge give it away: a name that was rebound to our address stays in Host, and the
page's own address stands in Origin. Addresses written in digits cannot be rebound.
"""

import hmac
import ipaddress
from collections.abc import Collection
from typing import Final
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sevenfold.serve.refusals import Refusal, error_response

# Whether the server lives is no secret, and what asks for it has no token.
OPEN: Final = frozenset({"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"})
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def gated(app: ASGIApp, *, names: Collection[str], token: str) -> ASGIApp:
    """Check Host, Origin and token of every request before `app` sees it.

    Args:
        app: what is protected.
        names: by which this server may be called, in small letters, besides `localhost`
            and addresses in digits.
        token: that every request must bring, as `Authorization: Bearer` or `?token=`;
            empty: none.
    """

    async def gate(scope: Scope, receive: Receive, send: Send) -> None:
        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        try:
            _check(scope, names, token)
        except Refusal as refusal:
            await error_response(Request(scope), refusal)(scope, receive, sealed)
            return
        await app(scope, receive, sealed)

    return gate


def _check(scope: Scope, names: Collection[str], token: str) -> None:
    headers = Headers(scope=scope)
    hosts = headers.getlist("host")
    if len(hosts) != 1 or not _ours(hosts[0], names):
        raise Refusal(
            421,
            "the request is for another host than this server",
            "use the address that the server printed, or start it with --allow-host NAME",
        )
    for origin in headers.getlist("origin"):
        if _authority(origin) != hosts[0].lower():
            raise Refusal(
                403,
                "a page of another site sent this request",
                "use the server's own page, or a program that sends no Origin",
            )
    if token and scope["path"] not in OPEN and not _known(scope, headers, token):
        raise Refusal(
            401,
            "the token is missing or wrong",
            "use the whole address that the server printed, or send Authorization: Bearer TOKEN",
            {"WWW-Authenticate": "Bearer"},
        )


def _ours(host: str, names: Collection[str]) -> bool:
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return False
    if name == "localhost" or name in names:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _authority(origin: str) -> str:
    scheme, _, rest = origin.lower().partition("://")
    return rest if scheme in ("http", "https") else ""


def _known(scope: Scope, headers: Headers, token: str) -> bool:
    scheme, _, sent = headers.get("authorization", "").partition(" ")
    query = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])
    offered = sent if scheme.lower() == "bearer" else query[0]
    return hmac.compare_digest(offered.encode(), token.encode())
