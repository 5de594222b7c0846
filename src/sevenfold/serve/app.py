"""Put the routes together."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from sevenfold.errors import ImageRejected, ResourceError, SevenfoldError
from sevenfold.predict import Predictor, has_maps
from sevenfold.serve import model, protocol
from sevenfold.serve.collect import Collection
from sevenfold.serve.gate import gated
from sevenfold.serve.meters import Meters
from sevenfold.serve.openapi import document
from sevenfold.serve.page import page
from sevenfold.serve.pool import Pool
from sevenfold.serve.refusals import Refusal, error_response
from sevenfold.serve.selftest import selftest

_KINDS: Final = (Refusal, SevenfoldError, HTTPException, ClientDisconnect, Exception)


@final
@dataclass(frozen=True)
class Settings:
    """Say how to serve.

    Args:
        sessions: pictures answered at a time, 1 or more.
        queue: pictures that may wait, 0 or more.
        seconds: from a request's arrival to its answer, at most.
        silence: seconds that a connection may wait for a request, or for the rest of its head.
        largest: body of a request, in bytes.
        token: that requests must bring; empty: none.
        names: by which the server may be called besides `localhost` and its addresses.
        collect: folder for pictures and corrections; None keeps nothing.
        collect_bytes: that this folder may hold.
    """

    sessions: int = 1
    queue: int = 16
    seconds: float = 30.0
    silence: float = 10.0
    largest: int = 25_000_000
    token: str = field(default="", repr=False)
    names: frozenset[str] = frozenset()
    collect: Path | None = None
    collect_bytes: int = 500_000_000


def application(predictor: Predictor, settings: Settings) -> ASGIApp:
    """Make the ASGI application that answers with a model.

    Args:
        predictor: with one thread in a call, as `Settings.sessions` calls run side by side.
        settings: see there.

    Raises:
        UsageError: a class cannot be a folder's name, and pictures are to be collected.
        ResourceError: that folder cannot be written.
    """
    served = _Served(predictor, settings)
    routes = served.routes()
    app = Starlette(
        routes=routes,
        exception_handlers=dict.fromkeys(_KINDS, error_response),
        lifespan=served.lifespan,
    )
    gate = gated(app, names=settings.names, token=settings.token)
    return served.meters.around(gate, {route.path for route in routes})


@final
class _Served:
    """Hold what the routes share, and the routes."""

    def __init__(self, predictor: Predictor, settings: Settings) -> None:
        classes = predictor.classes
        self._predictor = predictor
        self._maps = has_maps(predictor)
        self._not_ready = "the stored picture has not been answered yet"
        self._collection = (
            Collection(settings.collect, classes, settings.collect_bytes)
            if settings.collect
            else None
        )
        self._pool = Pool(settings.sessions, settings.queue, settings.seconds, settings.largest)
        self.meters = Meters(predictor.bundle, lambda: self._pool.taken)
        self._page = page(predictor, collects=bool(settings.collect))
        self._document = document(
            largest=settings.largest, collects=bool(settings.collect), token=bool(settings.token)
        )

    def routes(self) -> list[Route]:
        """List every address there is."""
        base = f"/v2/models/{model.NAME}"
        facts: dict[str, Callable[[], Any]] = {
            "/healthz": lambda: {"live": True},
            "/v2/health/live": lambda: {"live": True},
            "/v2": protocol.server,
            base: lambda: protocol.model(self._predictor),
            "/openapi.json": lambda: self._document,
        }
        return [
            Route("/", self.page),
            Route("/predict", self.predict, methods=["POST"]),
            Route("/metrics", self.metrics),
            *(Route(path, _telling(fact)) for path, fact in facts.items()),
            *(Route(path, self.ready) for path in ("/readyz", "/v2/health/ready", f"{base}/ready")),
            Route(f"{base}/infer", self.infer, methods=["POST"]),
            *([self.correcting(self._collection)] if self._collection else ()),
        ]

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Answer the stored picture first; close the threads last."""
        try:
            await self._pool.run(lambda: selftest(self._predictor))
            self._not_ready = ""
        except SevenfoldError as error:
            self._not_ready = error.problem
        yield
        self._pool.close()

    async def page(self, _: Request) -> Response:
        """Show the page for people."""
        return HTMLResponse(self._page.html, headers={"Content-Security-Policy": self._page.policy})

    async def predict(self, request: Request) -> Response:
        """Answer the picture in the body."""
        self._check_ready()
        form = request.headers.get("content-type", "").startswith("multipart/")
        work = self._answer_form if form else self._answer
        return JSONResponse(await self._pool.answered(request, work))

    async def infer(self, request: Request) -> Response:
        """Answer an inference request of the protocol."""
        self._check_ready()

        def work(data: bytes) -> Response:
            # Written here, in a thread: features are megabytes, and others wait meanwhile.
            return JSONResponse(protocol.infer(self._predictor, data))

        return await self._pool.answered(request, work)

    def correcting(self, collection: Collection) -> Route:
        """Make the route on which a person names the class of a kept picture."""

        async def correct(request: Request) -> Response:
            return JSONResponse(await self._pool.answered(request, partial(_correct, collection)))

        return Route("/correct", correct, methods=["POST"])

    async def ready(self, _: Request) -> Response:
        """Say whether the stored picture got its stored answer."""
        self._check_ready()
        return JSONResponse({"ready": True})

    async def metrics(self, _: Request) -> Response:
        """Tell Prometheus all counters."""
        return PlainTextResponse(self.meters.text())

    def _check_ready(self) -> None:
        if self._not_ready:
            cure = "ask again in a second; if it stays so, mend or replace the bundle"
            raise Refusal(503, self._not_ready, cure, {"Retry-After": "1"})

    def _answer_form(self, data: bytes) -> dict[str, Any]:
        """Answer a body that is said to be a form, and say so where it is one."""
        try:
            return self._answer(data)
        except ImageRejected as error:
            raise Refusal(
                422,
                "the body is a form, where a picture is expected",
                "send the bytes of one picture as the body, as curl --data-binary @photo.jpg does",
            ) from error

    def _answer(self, data: bytes) -> dict[str, Any]:
        answered = model.answer(self._predictor, data)
        self.meters.answered(answered.label, answered.seen)
        facts = model.to_json(answered, self._predictor, maps=self._maps)
        if self._collection is not None:
            try:
                kept = self._collection.keep(answered.pixels, answered.label, answered.probability)
            except ResourceError:  # the archive is down, and not the classifier
                kept = ""
            self.meters.kept(bool(kept))
            facts |= {"id": kept} if kept else {}
        return facts


def _telling(fact: Callable[[], Any]) -> Callable[[Request], Awaitable[Response]]:
    async def tell(_: Request) -> Response:
        return JSONResponse(fact())

    return tell


def _correct(collection: Collection, data: bytes) -> dict[str, str]:
    try:
        asked = json.loads(data)
        name, label = asked["id"], asked["label"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Refusal(400, "the body is no correction", 'send {"id": …, "label": …}') from error
    if not (isinstance(name, str) and isinstance(label, str) and collection.correct(name, label)):
        raise Refusal(
            404,
            "there is no such picture or class, or the folder is full",
            "send the `id` of an answer, and one of the model's classes",
        )
    return {"id": name, "label": label}
