"""Write the model card: a README of the bundle, with code that runs as it stands."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from sevenfold.evaluate import FEWEST_GROUPS, FEWEST_PICTURES
from sevenfold.plots import plain
from sevenfold.report import words
from sevenfold.report.page import cleaned
from sevenfold.report.words import Facts, estimate, part, percent, rows

CLASSES = 60

CODE = """\
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

card = json.loads(Path("card.json").read_text(encoding="utf-8"))
labels, point = card["classes"], card.get("operating_point") or {}
weights, thresholds = point.get("weights", {}), point.get("thresholds", {})
session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
picture = ImageOps.exif_transpose(Image.open(sys.argv[1]))
if picture.mode.startswith("I;16"):  # 16 bits of grey
    picture = Image.fromarray((np.asarray(picture) / 257).round().astype(np.uint8))
picture = picture.convert("RGBA")
picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
pixels = np.asarray(picture, dtype=np.uint8)[np.newaxis]  # [batch, height, width, 3]
p = session.run(["probabilities"], {"image": pixels})[0][0]
if point.get("costs"):
    best = int((p @ np.array(point["costs"])).argmin())
else:
    best = int((p * [weights.get(label, 1.0) for label in labels]).argmax())
sure = "" if p[best] >= thresholds.get(labels[best], 0.0) else " (not sure)"
print(f"{labels[best]} {p[best]:.3f}{sure}")
"""

_SPECIAL = re.compile(r"([\\`*_{}\[\]()#|!$~^=@])")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_ADDRESS = re.compile(r"(?i)(https?|ftp):|(www)\.")


def escaped(text: object, limit: int = 120) -> str:
    r"""Return text that Markdown shows as it is: no mark-up, no HTML, no link.

    Example:
        >>> escaped("*a* <b> [c](d)")
        '\\*a\\* &lt;b&gt; \\[c\\]\\(d\\)'
    """
    line = plain(text, limit)
    line = re.sub("[&<>]", lambda found: _ENTITIES[found[0]], line)
    line = _SPECIAL.sub(r"\\\1", line)
    line = _ADDRESS.sub(lambda found: f"{found[1] or found[2]}\\{found[0][-1]}", line)
    return re.sub(r"^([-+]|\d+(?=[.)]))", r"\\\1" if line[:1] in "+-" else r"\1\\", line)


def model_card(card: Mapping[str, Any]) -> str:
    """Return the model card in Markdown, for `README.md` in the bundle.

    Args:
        card: the content of `card.json`, schema "sevenfold.card/1"; missing parts are left out.
    """
    clean = cleaned(card)
    sections = (
        ("", _opening(clean)),
        ("Use it", _use(clean)),
        ("Scores", _scores(clean)),
        ("When it is in doubt", _doubt(clean)),
        ("Classes", _classes(clean)),
        ("Cost", _cost(clean)),
        ("Intended use and limits", _limits(clean)),
        ("Data", _data(clean)),
        ("Backbone and weights", _weights(clean)),
        ("Licence of this model", _licence(clean)),
        ("How it was made", _made(clean)),
    )
    blocks = []
    for title, lines in sections:
        text = "\n".join(lines).strip()
        if text:
            blocks.append(f"## {title}\n\n{text}" if title else text)
    return "\n\n".join(blocks) + "\n"


def _opening(card: Facts) -> Iterator[str]:
    yield f"# {escaped(card.get('title') or 'Image classifier')}"
    yield ""
    accuracy = estimate(part(card, "scores"), "accuracy")
    labels = words.count(len(card.get("classes") or []), "kind")
    yield f"An image classifier that tells {labels} of picture apart."
    if math.isfinite(accuracy.value):
        pictures = words.count(part(card, "scores").get("pictures"), "test picture")
        interval = f" (95 % interval {words.span(accuracy)})" if _has(accuracy) else ""
        most = ", by its most probable class" if answer_rule(card) else ""
        yield f"It is right on {percent(accuracy.value)} of {pictures}{interval}{most}."
        if most:
            wrong = estimate(part(part(card, "operating_point"), "test"), "error")
            told = (
                f": so it is wrong on {percent(wrong.value)}" if math.isfinite(wrong.value) else ""
            )
            yield f"As was asked for, it does not always answer that one{told}."


def _has(interval: words.Range) -> bool:
    return math.isfinite(interval.low + interval.high)


def _use(card: Facts) -> Iterator[str]:
    yield "In this folder, with `numpy`, `pillow` and `onnxruntime` installed and the code below as"
    yield "`classify.py`: `python classify.py photo.jpg`"
    yield ""
    yield f"```python\n{CODE}```"
    yield ""
    yield "The graph takes `image`: upright 8-bit RGB of any size, `[batch, height, width, 3]`."
    yield "It resizes and normalises by itself and gives `probabilities`, `logits` and `features`."
    if card.get("size"):
        yield f"The network inside sees {card['size']}\N{MULTIPLICATION SIGN}{card['size']} pixels."


def _scores(card: Facts) -> Iterator[str]:
    scores = part(card, "scores")
    names = (
        ("accuracy", "Accuracy"),
        ("balanced_accuracy", "Balanced accuracy"),
        ("macro_f1", "Macro F1"),
        ("calibration_error", "Calibration error"),
        ("nll", "Log loss (nats)"),
    )
    found = [(key, name) for key, name in names if math.isfinite(estimate(scores, key).value)]
    if not found:
        return
    yield "| measure | value | 95 % interval |"
    yield "| --- | --- | --- |"
    for key, name in found:
        value = estimate(scores, key)
        if key == "nll":
            yield f"| {name} | {value.value:.3f} | {words.decimals(value)} |"
        else:
            yield f"| {name} | {percent(value.value)} | {words.span(value)} |"
    yield ""
    common, share = words.most_common(scores)
    pictures = words.count(scores.get("pictures"), "test picture")
    looks = words.number(part(card, "data").get("openings"))
    yield f"Measured on {pictures} through `model.onnx`" + (
        f"; they were opened {looks:.0f} times." if looks > 1 else ", which were opened once."
    )
    if math.isfinite(share):
        yield f"Always answering “{escaped(common)}” has an accuracy of {percent(share)}."
    if scores.get("trustworthy") is False:
        groups = words.count(scores.get("groups"), "independent group")
        yield f"Do not rely on the intervals: the test pictures form only {groups}."


def _doubt(card: Facts) -> Iterator[str]:
    """Say what the operating point does on test, and how many pictures are marked as unlike."""
    if rule := answer_rule(card):
        yield f"{rule} The scores above and of the classes below are of the most probable one."
    point = part(card, "operating_point")
    test, unknown = part(point, "test"), part(part(card, "unknown"), "test")
    sure, wrong = estimate(test, "answered"), estimate(test, "error_answered")
    if math.isfinite(sure.value):
        yield "Below the threshold of its class in `card.json` (`operating_point`) an answer is"
        yield f"*not sure*. On test it is sure of {percent(sure.value)} ({words.span(sure)}), and"
        yield f"wrong on {percent(wrong.value)} ({words.span(wrong)}) of those."
    marked = estimate({"test": unknown}, "test")
    if math.isfinite(marked.value):
        yield f"Of the test pictures it marks {percent(marked.value)} ({words.span(marked)}) as"
        yield "unlike anything trained on."


def answer_rule(card: Mapping[str, Any]) -> str:
    """Say which class is answered where that is not always the most probable one."""
    point = part(card, "operating_point")
    weights = ", ".join(
        f"{escaped(name)} {words.number(weight):.3g}"
        for name, weight in part(point, "weights").items()
    )
    if point.get("costs"):
        return (
            "The answer is the class of the least expected cost (`operating_point.costs` in "
            "`card.json`), which need not be the most probable one."
        )
    if weights:
        return (
            "The answer is the class whose probability times its weight is the largest "
            f"(`operating_point.weights` in `card.json`: {weights}, all others 1)."
        )
    return ""


def _classes(card: Facts) -> Iterator[str]:
    judged = rows(part(card, "scores"), "classes")
    if judged:
        yield "| class | test pictures | recall | 95 % interval | precision |"
        yield "| --- | --- | --- | --- | --- |"
    for row in judged[:CLASSES]:
        recall = estimate(row, "recall")
        few = " (too few to judge)" if row.get("too_few") else ""
        if row.get("pictures") == 0:
            yield f"| {escaped(row.get('label'))} | 0 (not judged) | | | |"
            continue
        yield (
            f"| {escaped(row.get('label'))} | {row.get('pictures')}{few} | {percent(recall.value)} "
            f"| {words.span(recall)} | {percent(words.number(row.get('precision')))} |"
        )
    if not judged:
        yield from (f"* {escaped(label)}" for label in (card.get("classes") or [])[:CLASSES])
    hidden = max(len(judged), len(card.get("classes") or [])) - CLASSES
    if hidden > 0:
        yield ""
        yield f"{hidden} more are listed in `labels.txt`."


def _cost(card: Facts) -> Iterator[str]:
    machine = f" on {escaped(card['machine'])}" if card.get("machine") else ""
    size, whole = words.number(card.get("megabytes")), words.number(card.get("latency_ms"))
    network = words.number(card.get("network_latency_ms"))
    if size > 0:
        yield f"* `model.onnx` has {words.megabytes(size)}."
    if whole > 0:
        alone = f", the network alone {words.milliseconds(network)}" if network > 0 else ""
        time = words.milliseconds(whole)
        yield f"* {words.PHOTO.capitalize()} takes {time} with one thread{machine}{alone}."


def _limits(card: Facts) -> Iterator[str]:
    few = sum(bool(row.get("too_few")) for row in rows(part(card, "scores"), "classes"))
    yield "* Meant for pictures like those it was trained and tested on. The scores say nothing"
    yield "  about pictures from another camera, place or time: test it on yours first."
    yield "* It knows these classes only. A picture of anything else is still given one of them,"
    yield "  and the probability may be high."
    if card.get("imbalance") not in (None, "", "none"):
        yield "* Rare classes were helped in its training: it answers them more often for that. Do"
        yield "  not count its answers to estimate how common a class is."
    yield "* Do not let it decide alone where a wrong answer can hurt someone."
    if few:
        least = f"under {FEWEST_PICTURES} test pictures, or under {FEWEST_GROUPS} groups of them"
        yield f"* {few} of the classes have {least}: too few to judge."


def _data(card: Facts) -> Iterator[str]:
    data = part(card, "data")
    if data.get("name"):
        yield f"{escaped(data['name'])}, {words.count(data.get('pictures'), 'picture')}."
    if data.get("notice"):
        yield escaped(data["notice"], 1000)


def _weights(card: Facts) -> Iterator[str]:
    if card.get("backbone"):
        yield f"* Backbone: `{_code(card['backbone'])}`"
    for weights in (part(card, "weights"), *rows(card, "other_weights")):
        for key, name in (("name", "Weights"), ("sha256", "SHA-256"), ("source", "Source")):
            if weights.get(key):
                yield f"* {name}: `{_code(weights[key])}`"
        if weights.get("licence"):
            yield f"* Licence of the weights: {escaped(weights['licence'])}"


def _licence(card: Facts) -> Iterator[str]:
    if card.get("licence"):
        yield escaped(card["licence"], 200)
    else:
        yield "No licence was given for this model: without one, nobody but its maker may use it."


def _made(card: Facts) -> Iterator[str]:
    if card.get("command"):
        yield f"```\n{_code(card['command'], 2000)}\n```"
        yield ""
    if card.get("created"):
        yield f"Made on {escaped(words.day(card['created']))}."
    yield from _vote(card)
    temperature = words.number(card.get("temperature"))
    if temperature > 0:
        yield f"Its probabilities are calibrated with temperature {temperature:.3f}."
    versions = part(card, "versions")
    if versions:
        yield (
            "Versions: "
            + ", ".join(f"{escaped(k)} {escaped(v)}" for k, v in versions.items())
            + "."
        )


def _vote(card: Facts) -> Iterator[str]:
    """Say how many models voted, and whether they or their student are in the bundle."""
    voters = words.number(card.get("voters"))
    if not voters > 1:
        return
    networks = words.count(voters, "network")
    if card.get("ships") == "student" and card.get("averaged") is True:
        yield f"It is the average of the weights of {networks} that were trained alike."
    elif card.get("ships") == "student":
        yield f"It is a student: one network that learned from the vote of {networks}."
    elif card.get("ships") == "vote":
        yield f"Its answer is the vote of {networks} inside `model.onnx`."


def _code(text: object, limit: int = 200) -> str:
    """Return text for a code span or block, in which a backtick would end it."""
    return plain(text, limit).replace("`", "'")
