"""Answer so many pictures at a time, let so many wait, and tell the rest to come back.

A request takes its place before its body is read, so that places bound memory too.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, final

from starlette.requests import Request

from sevenfold.serve.refusals import Refusal

_HEARD_OUT = 3  # times the largest body
T = TypeVar("T")


@final
class Pool:
    """Run work on the bodies of requests in a bounded number of threads.

    The threads share one graph, each call of which runs on the thread that makes it.

    Args:
        sessions: pictures answered at a time, 1 or more.
        queue: pictures that may wait, 0 or more.
        seconds: from a request's arrival to its answer.
        largest: body, in bytes.
    """

    def __init__(self, sessions: int, queue: int, seconds: float, largest: int) -> None:
        self._threads = ThreadPoolExecutor(sessions, "sevenfold")
        self._places = sessions + queue
        self._seconds = seconds
        self._largest = largest
        self.taken = 0

    async def answered(self, request: Request, work: Callable[[bytes], T]) -> T:
        """Read a request's body and return what `work` makes of it.

        Raises:
            Refusal: 503 if all places are taken or time is up, 408 if the body is not
                there in time, 413 if it is too large.
        """
        if self.taken >= self._places:
            raise _come_back("as many pictures as fit are waiting already")
        self.taken += 1
        try:
            ends = asyncio.get_running_loop().time() + self._seconds
            try:
                async with asyncio.timeout_at(ends):
                    data = await _body(request, self._largest)
            except TimeoutError as error:
                raise Refusal(
                    408,
                    f"the body was not there after {self._seconds:g} s",
                    "send a smaller picture",
                    {"Connection": "close"},
                ) from error
            try:
                async with asyncio.timeout_at(ends):
                    return await self.run(lambda: work(data))
            except TimeoutError as error:
                raise _come_back(f"there was no answer after {self._seconds:g} s") from error
        finally:
            self.taken -= 1

    async def run(self, work: Callable[[], T]) -> T:
        """Run work in one of the threads; it is dropped if it has not begun when cancelled."""
        return await asyncio.wrap_future(self._threads.submit(work))

    def close(self) -> None:
        """Finish what has begun and stop the threads."""
        self._threads.shutdown(cancel_futures=True)


async def _body(request: Request, largest: int) -> bytes:
    """Read a body of at most `largest` bytes.

    A body that is not much larger is read to its end and dropped: a client that is still
    sending when the connection closes never sees the answer.

    Raises:
        Refusal: 413.
    """
    told = request.headers.get("content-length", "0")
    if told.isdecimal() and (len(told) > 20 or int(told) > _HEARD_OUT * largest):
        raise _too_large(largest)
    data, size = bytearray(), 0
    async for part in request.stream():
        size += len(part)
        if size > _HEARD_OUT * largest:
            break
        if size <= largest:
            data += part
        else:
            data.clear()
    if size > largest:
        raise _too_large(largest)
    return bytes(data)


def _come_back(problem: str) -> Refusal:
    return Refusal(503, problem, "try again in a second", {"Retry-After": "1"})


def _too_large(largest: int) -> Refusal:
    return Refusal(
        413,
        f"the body is larger than {largest:,} bytes",
        "scale the picture down, or save it with stronger compression",
        {"Connection": "close"},
    )
