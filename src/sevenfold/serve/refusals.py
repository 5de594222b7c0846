"""Say no over HTTP: a status, and JSON with the problem and its cure."""

from collections.abc import Mapping
from typing import Final, final

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from sevenfold.errors import DataError, ModelError, ResourceError, SevenfoldError, UsageError

_STATUS: Final = ((DataError, 422), (UsageError, 400), (ModelError, 503), (ResourceError, 503))
_NOTHING: Final[Mapping[str, str]] = {}


@final
class Refusal(Exception):
    """Refuse a request.

    Args:
        status: of HTTP, 400 to 503.
        problem: what is wrong, in one line.
        cure: what the client can do, in one line.
        headers: for the answer, such as Retry-After.
    """

    def __init__(
        self, status: int, problem: str, cure: str, headers: Mapping[str, str] = _NOTHING
    ) -> None:
        super().__init__(problem)
        self.status = status
        self.problem = problem
        self.cure = cure
        self.headers = headers


def error_response(request: Request, error: Exception) -> Response:
    """Turn what was raised into an answer in JSON."""
    match error:
        case Refusal():
            return _answer(error.status, error.problem, error.cure, error.headers)
        case SevenfoldError():
            status = next((s for kind, s in _STATUS if isinstance(error, kind)), 500)
            return _answer(status, error.problem, error.cure)
        case HTTPException(status_code=404):
            return _answer(404, "there is nothing at this address", "see /openapi.json")
        case HTTPException():
            cure = "see /openapi.json"
            return _answer(error.status_code, error.detail, cure, error.headers or _NOTHING)
        case ClientDisconnect():
            return _answer(400, "the connection ended before the body did", "send it again")
    return _answer(500, "the server failed at this request", "tell whoever runs the server")


def _answer(
    status: int, problem: str, cure: str, headers: Mapping[str, str] = _NOTHING
) -> Response:
    return JSONResponse({"problem": problem, "cure": cure}, status, dict(headers))
