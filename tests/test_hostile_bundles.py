"""Hostile bundles: each is refused by name with exit code 4, and no file outside is touched."""

import hashlib
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from bundles import knowing, seal, tiny_bundle, tiny_model
from sevenfold import cli

CLASSES = ("blue", "red")
SECRET = b"nobody may read or change this"
Harm = Callable[[Path], None]


def sums(add: str = "", *, name: str = "../secret.txt", content: bytes = SECRET) -> Harm:
    """Name one more file in the checksums, with its true hash."""

    def harm(folder: Path) -> None:
        line = add or f"{hashlib.sha256(content).hexdigest()}  {name}\n"
        with (folder / "SHA256SUMS").open("a", encoding="utf-8", newline="") as file:
            file.write(line)

    return harm


def card(**changes) -> Harm:
    """Change the card, and seal the bundle as its author would."""

    def harm(folder: Path) -> None:
        facts = json.loads((folder / "card.json").read_text("utf-8"))
        (folder / "card.json").write_text(json.dumps(facts | changes), encoding="utf-8")
        seal(folder)

    return harm


def file(name: str, content: bytes, *, sealed: bool = True) -> Harm:
    def harm(folder: Path) -> None:
        (folder / name).write_bytes(content)
        if sealed:
            seal(folder)

    return harm


def missing(name: str, *, sealed: bool = False) -> Harm:
    def harm(folder: Path) -> None:
        (folder / name).unlink()
        if sealed:
            seal(folder)

    return harm


def cut(name: str, share: float) -> Harm:
    def harm(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(share * len(data))])
        seal(folder)

    return harm


def linked(name: str, target: str) -> Harm:
    """Put a link in the place of a file."""

    def harm(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return harm


def swapped(one: str, other: str, *, sealed: bool) -> Harm:
    def harm(folder: Path) -> None:
        first, second = (folder / one).read_bytes(), (folder / other).read_bytes()
        (folder / one).write_bytes(second)
        (folder / other).write_bytes(first)
        if sealed:
            seal(folder)

    return harm


def outside(location: str) -> Harm:
    """Let the graph take its weights from a file outside."""

    def harm(folder: Path) -> None:
        model = tiny_model(2, 8)
        for one in model.graph.initializer:
            if one.name == "hues":
                onnx.external_data_helper.set_external_data(one, location, 0, 24)
                one.ClearField("raw_data")
                one.data_location = TensorProto.EXTERNAL
        (folder / "model.onnx").write_bytes(model.SerializeToString())
        seal(folder)

    return harm


def graph(change: Callable[[onnx.ModelProto], None]) -> Harm:
    def harm(folder: Path) -> None:
        model = tiny_model(2, 8)
        change(model)
        (folder / "model.onnx").write_bytes(model.SerializeToString())
        seal(folder)

    return harm


def operator(model: onnx.ModelProto) -> None:
    model.graph.node[0].CopyFrom(helper.make_node("Shell", ["image"], ["planes"], domain="evil"))
    model.opset_import.append(helper.make_opsetid("evil", 1))


def huge(model: onnx.ModelProto) -> None:
    sides = next(one for one in model.graph.initializer if one.name == "hues")
    sides.dims[:] = [2**31, 2**31]


def looped(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "probabilities"


def newer(model: onnx.ModelProto) -> None:
    model.ir_version = 10**6


def nan(folder: Path) -> None:
    text = (folder / "card.json").read_text("utf-8")
    (folder / "card.json").write_text(text.replace("0.2", "NaN"), encoding="utf-8")
    seal(folder)


def sparse(name: str, size: int) -> Harm:
    """Let a file have more bytes than anybody should read, most of them holes."""

    def harm(folder: Path) -> None:
        with (folder / name).open("r+b") as held:
            held.truncate(size)

    return harm


POINT = {"schema": "sevenfold.operating/1", "rule": "halved_error", "weights": {}, "costs": []}
SURE = POINT | {"thresholds": dict.fromkeys(CLASSES, 0.5)}
NAN = float("nan")
HARMS: dict[str, Harm] = {
    "sums: a path upwards": sums(),
    "sums: an absolute path": sums(name="/etc/passwd"),
    "sums: a path of Windows": sums(name="..\\secret.txt"),
    "sums: a drive": sums(name="C:secret.txt"),
    "sums: a folder": sums(name="sub/../../secret.txt"),
    "sums: the folder itself": sums(name="."),
    "sums: NUL": sums(name="a\0b"),
    "sums: control characters": sums("\x1b[2J junk\n"),
    "sums: a file twice": sums(name="card.json", content=b"x"),
    "sums: a file that is not there": sums(name="none.bin"),
    "sums: a name of a megabyte": sums(name="x" * 10**6),
    "sums: empty": file("SHA256SUMS", b"", sealed=False),
    "sums: no text": file("SHA256SUMS", b"\xff\xfe\0", sealed=False),
    "sums: missing": missing("SHA256SUMS"),
    "link: the model to a file outside": linked("model.onnx", "../secret.txt"),
    "link: to itself": linked("card.json", "card.json"),
    "link: to a device that never ends": linked("labels.txt", "/dev/zero"),
    "link: the sums to a device": linked("SHA256SUMS", "/dev/zero"),
    "link: to a folder": linked("card.json", ".."),
    "link: the sums to nothing": linked("SHA256SUMS", "../none"),
    "files: a model of terabytes": sparse("model.onnx", 2**41),
    "files: a card of gigabytes": sparse("card.json", 2**33),
    "files: a wrong hash": file("card.json", b"{}", sealed=False),
    "files: the model missing": missing("model.onnx"),
    "files: the labels missing, and sealed": missing("labels.txt", sealed=True),
    "files: swapped": swapped("labels.txt", "card.json", sealed=False),
    "files: swapped and sealed": swapped("model.onnx", "card.json", sealed=True),
    "files: labels in another order": file("labels.txt", b"red\nblue\n"),
    "files: labels that are no text": file("labels.txt", b"\xff\n\xfe\n"),
    "files: features cut short": cut("features.safetensors", 0.5),
    "files: features whose header lies": file("features.safetensors", b"\xff" * 7 + b"\x7f{}"),
    "files: features without a header": file("features.safetensors", b"\0" * 8),
    "card: no JSON": file("card.json", b"{"),
    "card: deep": file("card.json", b"[" * 200_000),
    "card: a number of a million digits": file("card.json", b'{"size": ' + b"9" * 10**6 + b"}"),
    "card: a list": file("card.json", b"[]"),
    "card: another schema": card(schema="other/1"),
    "card: a newer schema": card(schema="sevenfold.card/2"),
    "card: a schema that is a list": card(schema=["sevenfold.card/1"] * 1000),
    "card: a size without end": card(size=float("inf")),
    "card: a size below nothing": card(size=-8),
    "card: classes that are none": card(classes=[{"a": 1}, None]),
    "card: one class": card(classes=["blue"]),
    "card: a threshold that is no number": card(
        operating_point=POINT | {"thresholds": dict.fromkeys(CLASSES, NAN)}
    ),
    "card: thresholds of other classes": card(operating_point=POINT | {"thresholds": {"x": 1}}),
    "card: weights without end": card(
        operating_point=SURE | {"weights": dict.fromkeys(CLASSES, float("inf"))}
    ),
    "card: costs of another shape": card(operating_point=SURE | {"costs": [[0, 1, 2]]}),
    "card: a distance that is no number": nan,
    "card: a reference that counts below nothing": card(
        drift={
            "schema": "sevenfold.drift/1",
            "answers": dict.fromkeys(CLASSES, -1),
            "training": {"blue": 10**400, "red": 1},
            "distances": [],
        }
    ),
    "card: a distance of a thousand digits": card(
        unknown={"schema": "sevenfold.unknown/1", "score": "centroid", "threshold": 10**1000}
    ),
    "card: a cost of a thousand digits": card(operating_point=SURE | {"costs": [[10**1000]]}),
    "card: a temperature below nothing": card(temperature=-1),
    "card: a temperature that is no number": card(temperature=NAN),
    "graph: cut short": cut("model.onnx", 0.6),
    "graph: empty": file("model.onnx", b""),
    "graph: junk": file("model.onnx", bytes(range(256)) * 40),
    "graph: weights in a file above": outside("../secret.txt"),
    "graph: weights in an absolute file": outside("/etc/passwd"),
    "graph: weights in a file beside it": outside("README.md"),
    "graph: an operator of its own": graph(operator),
    "graph: a weight of a size that cannot be": graph(huge),
    "graph: a circle": graph(looped),
    "graph: a version to come": graph(newer),
    "graph: other classes": graph(lambda model: model.CopyFrom(tiny_model(7, 8))),
    "graph: no output": graph(lambda model: model.graph.ClearField("output")),
}


def content(path: Path) -> bytes:
    """Read the first bytes of a file: some have more than a disk."""
    with path.open("rb") as held:
        return held.read(10**7)


def everything(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return what lies in a folder: names, times and contents of files that are no links."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, content(path))
        for path in sorted(folder.rglob("*"))
        if not path.is_symlink() and path.is_file()
    }


def test_there_are_forty() -> None:
    assert len(HARMS) >= 40


@pytest.mark.parametrize("name", HARMS)
def test_a_hostile_bundle_is_refused_by_name(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    if name.startswith("link") and sys.platform == "win32":
        pytest.skip("links need a privilege there")
    bundle = knowing(tiny_bundle(tmp_path / "bundle", CLASSES), {})
    (tmp_path / "secret.txt").write_bytes(SECRET)
    HARMS[name](bundle)
    before, opened = everything(tmp_path), []
    watched = str(tmp_path / "secret.txt")
    reading = Path.read_bytes
    monkeypatch.setattr(
        Path, "read_bytes", lambda p: (opened.append(os.path.realpath(p)), reading(p))[1]
    )
    for command in (f"predict {bundle} {tmp_path}", f"serve {bundle} --port 0"):
        assert cli.main(command.split()) == 4
        told = capfd.readouterr()
        assert told.out == ""
        assert re.fullmatch(r"error: .+\n  try: .+\n", told.err), told.err
        assert "bundle" in told.err
        assert "Traceback" not in told.err
        assert len(told.err) < 3_000
        assert SECRET.decode() not in told.err
    assert watched not in opened
    assert everything(tmp_path) == before


def test_the_bundle_that_was_harmed_is_good_before(tmp_path, monkeypatch, capfd) -> None:
    bundle = knowing(tiny_bundle(tmp_path / "bundle", CLASSES), {})
    assert cli.main(["predict", str(bundle), str(bundle / "README.md"), "--json"]) in (0, 3)
    assert "is damaged" not in capfd.readouterr().err
    assert os.listdir(tmp_path) == ["bundle"]
