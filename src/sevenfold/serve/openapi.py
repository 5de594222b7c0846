"""Describe the server to programs: an OpenAPI 3.1 document."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Final

from sevenfold.serve.model import NAME
from sevenfold.serve.protocol import OUTPUTS

_TEXT: Final = {"type": "string"}
_SHARE: Final = {"type": "number", "minimum": 0, "maximum": 1.000001}
_SIDE: Final = {"type": "integer", "minimum": 1}


def document(*, largest: int, collects: bool, token: bool) -> dict[str, Any]:
    """Return the document.

    Args:
        largest: body of a picture, in bytes.
        collects: whether corrections are taken.
        token: whether requests must bring one.
    """
    base = f"/v2/models/{NAME}"
    usual = (400, 403, 421, *((401,) if token else ()))
    busy = (408, 413, 503)
    picture = {"type": "string", "format": "binary", "maxLength": largest}
    pictures = {kind: {"schema": picture} for kind in ("application/octet-stream", "image/*")}
    facts = _json({"type": "object"})
    paths = {
        "/": {"get": _does("The page for people", {"text/html": {"schema": _TEXT}}, usual)},
        "/predict": {
            "post": _does("Answer a picture", _json(_ref("Answer")), (*usual, *busy, 422), pictures)
        },
        "/healthz": {"get": _does("Does the server live?", facts, usual)},
        "/readyz": {"get": _does("Has the stored picture been answered?", facts, (*usual, 503))},
        "/metrics": {
            "get": _does("Counters for Prometheus", {"text/plain": {"schema": _TEXT}}, usual)
        },
        "/openapi.json": {"get": _does("This document", facts, usual)},
        "/v2": {"get": _does("Describe the server", facts, usual)},
        "/v2/health/live": {"get": _does("Does the server live?", facts, usual)},
        "/v2/health/ready": {"get": _does("Is the server ready?", facts, (*usual, 503))},
        base: {"get": _does("Describe the model", facts, usual)},
        f"{base}/ready": {"get": _does("Is the model ready?", facts, (*usual, 503))},
        f"{base}/infer": {"post": _does("Infer", facts, (*usual, *busy), _json(_ref("Inference")))},
    }
    if collects:
        correct = _does("Say what it is", facts, (*usual, *busy, 404), _json(_ref("Correction")))
        paths["/correct"] = {"post": correct}
    secured: dict[str, Any] = {"security": [{"token": []}]} if token else {}
    schemes: dict[str, Any] = {"token": {"type": "http", "scheme": "bearer"}} if token else {}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Sevenfold", "version": version("sevenfold")},
        "paths": paths,
        "components": {"schemas": _SCHEMAS, "securitySchemes": schemes},
        **secured,
    }


def _does(
    summary: str,
    gives: Mapping[str, Any],
    refuses: tuple[int, ...],
    takes: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    problem = {"description": "Why not", "content": _json(_ref("Problem"))}
    facts: dict[str, Any] = {
        "summary": summary,
        "responses": {
            "200": {"description": summary, "content": gives},
            **{str(status): problem for status in refuses},
        },
    }
    return facts | ({"requestBody": {"required": True, "content": takes}} if takes else {})


def _json(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _of(required: tuple[str, ...], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": properties}


_TENSOR: Final = _of(
    ("name", "datatype", "shape", "data"),
    name={"const": "image"},
    datatype={"const": "UINT8"},
    shape={
        "type": "array",
        "prefixItems": [_SIDE, _SIDE, _SIDE, {"const": 3}],
        "minItems": 4,
        "maxItems": 4,
    },
    data={"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 255}},
)
_SCHEMAS: Final = {
    "Problem": _of(("problem", "cure"), problem=_TEXT, cure=_TEXT),
    "Answer": _of(
        ("label", "probability", "probabilities", "seconds"),
        label=_TEXT,
        probability=_SHARE,
        probabilities={"type": "object", "additionalProperties": _SHARE},
        seconds={"type": "number"},
        sure={"type": "boolean"},
        unlike={"type": "boolean"},
        distance={"type": "number"},
        evidence={"type": "array", "items": {"type": "array", "items": _SHARE}},
        id=_TEXT,
    ),
    "Inference": _of(
        ("inputs",),
        id={"type": "string", "pattern": "^[ -~]{0,1000}$"},
        inputs={"type": "array", "items": _TENSOR, "minItems": 1, "maxItems": 1},
        outputs={
            "type": "array",
            "items": _of(("name",), name={"enum": list(OUTPUTS)}),
            "maxItems": len(OUTPUTS),
        },
    ),
    "Correction": _of(
        ("id", "label"), id={"type": "string", "pattern": "^[0-9a-f]{32}$"}, label=_TEXT
    ),
}
