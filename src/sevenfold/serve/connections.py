"""End connections: those on which nothing comes or is read, and all when the server ends.

A server that closes its socket at once cuts whoever has connected and asked, but has
not been read yet. So from the signal on requests are still taken, each answer closes
its connection, and the server ends when nothing has come for a moment.
"""

import asyncio
from collections.abc import Collection
from typing import Any, Final, final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOKS: Final = 15
"""Looks in a row at which no request runs or has come, after which none is on its way. They
are counted, not timed: a process that gets no time would believe that all is quiet."""
_STEP: Final = 0.02


@final
class Silence:
    """Close connections that have waited for a client for too long.

    For a request, for the rest of one, or for it to read what it has been answered.

    Args:
        seconds: that a connection may wait.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._waiting: dict[Any, tuple[Any, int, float]] = {}

    def end(self, connections: Collection[Any], now: float) -> None:
        """Close what has waited for too long; called again and again.

        Args:
            connections: all that are open, as uvicorn holds them.
            now: seconds of a clock that only goes forward.
        """
        waiting = {}
        for one in tuple(connections):
            cycle = one.cycle  # the latest request, None before the first
            unsent = one.transport.get_write_buffer_size()
            if cycle is not None and not cycle.response_complete and not unsent:
                continue
            before, left, since = self._waiting.get(one, (cycle, unsent, now))
            # What the client asks or reads is a sign of life; what the server adds is none.
            since = since if before is cycle and unsent >= left else now
            if now - since < self._seconds:
                waiting[one] = cycle, unsent, since
            else:
                one.transport.abort()  # close() would wait for a client that reads nothing
        self._waiting = waiting


@final
class Drain:
    """Pass requests on, and know when the last one has been answered.

    Args:
        app: that answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._running = 0
        self._taken = 0
        self.begun = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; once the drain has begun, its connection ends with it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        whole = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers

        async def receiving() -> Message:
            nonlocal whole
            message = await receive()
            whole = not message.get("more_body", False)
            return message

        async def sending(message: Message) -> None:
            # Where a body is still on its way, closing would destroy the answer to it.
            if self.begun and whole and message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        self._taken += 1
        self._running += 1
        try:
            await self._app(scope, receiving, sending)
        finally:
            self._running -= 1

    async def finish(self, seconds: float) -> None:
        """Begin the drain and wait until no request runs and none has come for a moment.

        Args:
            seconds: to wait at most.
        """
        clock = asyncio.get_running_loop().time
        self.begun, end, quiet = True, clock() + seconds, 0
        while clock() < end and quiet < LOOKS:
            taken = self._taken
            await asyncio.sleep(_STEP)
            quiet = 0 if self._running or self._taken > taken else quiet + 1
