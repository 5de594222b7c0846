"""Make one HTML page that classifies pictures where it is opened: no server, no network.

Model and runtime lie in the page, gzipped and in base64. Weights are float16 and are
widened to float32 when the page opens, so that every browser computes the same.
"""

import base64
import gzip
import json
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import onnx
from markupsafe import Markup
from onnx import TensorProto, helper, numpy_helper

from sevenfold import maps
from sevenfold.bundles import Bundle
from sevenfold.errors import GateRefused
from sevenfold.evaluate import as_chances
from sevenfold.exports.outputs import DISTANCE, names
from sevenfold.exports.runtime import VERSION, runtime
from sevenfold.image import shown
from sevenfold.pages import digest, template

LARGEST_MEGABYTES: Final = 15.0
LARGEST_PIXELS: Final = 50_000_000
_SHOWN: Final = (("shown", shown),)
_FEWEST: Final = 64  # numbers in a weight that is worth narrowing
_HALF: Final = float(np.finfo(np.float16).max)


def halved(model: bytes) -> bytes:
    """Store a graph's large weights as float16; it computes in float32 as before.

    Args:
        model: a graph that ships.
    """
    graph = onnx.load_from_string(model)
    nodes, weights = [], []
    for weight in graph.graph.initializer:
        values = numpy_helper.to_array(weight)
        large = weight.data_type == TensorProto.FLOAT and values.size >= _FEWEST
        if not large or not float(np.abs(values).max()) <= _HALF:
            weights.append(weight)
            continue
        narrow = f"{weight.name}.float16"
        weights.append(numpy_helper.from_array(values.astype(np.float16), narrow))
        nodes.append(helper.make_node("Cast", [narrow], [weight.name], to=TensorProto.FLOAT))
    nodes += list(graph.graph.node)
    del graph.graph.initializer[:], graph.graph.node[:]
    graph.graph.initializer.extend(weights)
    graph.graph.node.extend(nodes)
    onnx.checker.check_model(graph)
    return bytes(graph.SerializeToString())


def page(bundle: Bundle, model: bytes) -> str:
    """Write the page of a bundle.

    Args:
        bundle: names the classes and how an answer is decided.
        model: its graph, from `outputs.extended` and `halved`.

    Raises:
        GateRefused: the page is larger than 15 MB.
    """
    heat = {"heat": maps.HEAT.tolist(), "veil": maps.VEIL}
    parts: Any = template("classifier.html.j2", _SHOWN, strict=False).make_module(heat)
    browser, told = runtime(), names(model)
    script = Markup(f"{browser.script}\n{parts.script}")
    context = heat | {
        "title": bundle.card.get("title") or "Image classifier",
        "classes": bundle.classes,
        "facts": _script_json(_facts(bundle, told)),
        "chances": as_chances(bundle.card),
        "unsure": bundle.point.rule != "none",
        "unlike": DISTANCE in told,
        "notice": _notice(bundle.card),
        "licence": browser.licence,
        "version": VERSION,
        "program": script,
        "policy": _policy(str(parts.css), str(script)),
        "model": base64.b64encode(gzip.compress(model, 9, mtime=0)).decode(),
        "binary": base64.b64encode(browser.binary).decode(),
    }
    text = template("classifier.html.j2", _SHOWN).render(context)
    megabytes = len(text.encode()) / 1e6
    if megabytes > LARGEST_MEGABYTES:
        raise GateRefused(
            f"the page would have {megabytes:.1f} MB, more than {LARGEST_MEGABYTES:g}",
            "make the model smaller first: `sevenfold distill` a vote, or `sevenfold prune`",
        )
    return text


def _policy(style: str, script: str) -> str:
    return (
        f"default-src 'none'; script-src 'sha256-{digest(script)}' 'wasm-unsafe-eval'; "
        f"style-src 'sha256-{digest(style)}'; img-src blob:; base-uri 'none'; form-action 'none'"
    )


def _facts(bundle: Bundle, told: tuple[str, ...]) -> dict[str, Any]:
    point, farthest = bundle.point, bundle.detector.threshold
    return {
        "classes": list(bundle.classes),
        "size": bundle.size,
        "weights": point.weights.tolist(),
        "costs": point.costs.tolist(),
        "thresholds": point.thresholds.tolist(),
        "outputs": [name for name in told if name not in ("logits", "features")],
        "farthest": farthest if DISTANCE in told else None,
        "largest": LARGEST_PIXELS,
    }


def _notice(card: Mapping[str, Any]) -> str:
    data = card.get("data")
    return str(data.get("notice", "")) if isinstance(data, Mapping) else ""


def _script_json(value: Any) -> Markup:
    """Write JSON that cannot end the element that it stands in."""
    text = json.dumps(value, allow_nan=False)
    for mark in "<>&":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return Markup(text)
