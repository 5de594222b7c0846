"""Mistakes of the newer commands: each makes what it meets in a folder, and returns the line."""

import json
from collections.abc import Callable
from pathlib import Path

from PIL import Image

import photos
from bundles import seal, tiny_bundle

Mistake = Callable[[Path], str]


def _file(name: str, line: str, text: str = "") -> Mistake:
    """Put a file in the command's way."""

    def make(folder: Path) -> str:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
        return line

    return make


def _photos(line: str, classes: tuple[str, ...] = ("blue", "red"), count: int = 3) -> Mistake:
    """Lay out pictures, for a command that reads before it refuses."""

    def make(folder: Path) -> str:
        photos.write(folder / "photos", dict.fromkeys(classes, count), side=16)
        return line

    return make


def _grey(line: str) -> Mistake:
    """Lay out pictures without any colour."""

    def make(folder: Path) -> str:
        for label, level in (("dark", 40), ("light", 200)):
            (folder / "photos" / label).mkdir(parents=True)
            Image.new("L", (16, 16), level).save(folder / "photos" / label / "1.png")
        return line

    return make


def _bundle(line: str, classes: tuple[str, ...] = ("blue", "red")) -> Mistake:
    def make(folder: Path) -> str:
        photos.write(folder / "photos", {"blue": 3, "red": 3}, side=16)
        tiny_bundle(folder / "bundle", classes)
        return line

    return make


def _beside(name: str, line: str, text: str) -> Mistake:
    """Put a file beside a bundle."""

    def make(folder: Path) -> str:
        (folder / name).write_text(text, encoding="utf-8")
        return _bundle(line)(folder)

    return make


def _unreadable(line: str) -> Mistake:
    def make(folder: Path) -> str:
        for label in ("blue", "red"):
            (folder / "photos" / label).mkdir(parents=True)
            for number in range(3):
                (folder / "photos" / label / f"{number}.jpg").write_bytes(b"no picture")
        return line

    return make


def _damaged_bundle(folder: Path) -> str:
    bundle = tiny_bundle(folder / "bundle", ("blue", "red"))
    (bundle / "model.onnx").write_bytes(b"no model")
    return "serve bundle"


def _strange_card(folder: Path) -> str:
    bundle = tiny_bundle(folder / "bundle", ("blue", "red"))
    card = json.loads((bundle / "card.json").read_text(encoding="utf-8"))
    (bundle / "card.json").write_text(json.dumps(card | {"schema": "x/2"}), encoding="utf-8")
    seal(bundle)
    return "serve bundle"


def _plain(line: str) -> Mistake:
    return lambda folder: line


def _tables(first: str, second: str) -> Mistake:
    """Lay out two tables of predictions, for a comparison."""

    def make(folder: Path) -> str:
        (folder / "a.csv").write_text(first, encoding="utf-8")
        (folder / "b.csv").write_text(second, encoding="utf-8")
        return "compare a.csv b.csv"

    return make


RACE = "race photos --out race"
MISTAKES: dict[str, Mistake] = {
    "race: a practice that is none": _plain(f"{RACE} --practice transfer"),
    "race: an unknown optimizer": _plain(f"{RACE} --only sgd,adamm"),
    "race: one alone": _plain(f"{RACE} --only sgd"),
    "race: an address without Ray": _plain(f"{RACE} --address auto"),
    "race: no trials": _plain(f"{RACE} --trials 0"),
    "race: trials of methods": _plain(f"{RACE} --practice imbalance --trials 2"),
    "race: one seed": _plain(f"{RACE} --seeds 1"),
    "race: members": _plain(f"{RACE} --set ensembling.members=3"),
    "race: what races is set": _plain(f"{RACE} --set optimization.name=sgd"),
    "race: an unknown budget": _plain(f"{RACE} --budget quik"),
    "race: no such recipe": _plain(f"{RACE} --recipe none.toml"),
    "race: out is a file": _file("race", RACE),
    "race: out holds other files": _file("race/notes.txt", RACE),
    "race: out among the photos": _photos("race photos --out photos/race"),
    "race: no such pictures": _plain(RACE),
    "race: even classes": _photos(f"{RACE} --practice imbalance --set side=16", count=20),
    "audit: out among the photos": _photos("audit photos --out photos/audit"),
    "preview: out is a file": _file("sheet", "preview photos --out sheet"),
    "preview: out in the data": _photos("preview photos --out photos/sheet"),
    "preview: no such pictures": _plain("preview photos --out sheet"),
    "preview: a table in the data's place": _plain("preview photos.csv --out sheet"),
    "preview: nothing readable": _unreadable("preview photos --out sheet"),
    "preview: an unknown class": _photos(
        "preview photos --out sheet --set augmentation.class_off.rde=flip"
    ),
    "preview: an unknown operation": _photos(
        "preview photos --out sheet --set augmentation.class_off.red=flap"
    ),
    "preview: a range that the policy replaces": _photos(
        "preview photos --out sheet --set augmentation.policy=trivial --set augmentation.hue=0.2"
    ),
    "preview: a strength of a policy that is off": _photos(
        "preview photos --out sheet --set augmentation.policy_strength=2"
    ),
    "preview: noise of no strength": _photos(
        "preview photos --out sheet --set augmentation.noise=0.5 --set augmentation.noise_sigma=0"
    ),
    "preview: nothing to make stronger": _photos(
        "preview photos --out sheet --set augmentation.crop=1 --set augmentation.stretch=1 "
        "--set augmentation.rotation_degrees=0 --set augmentation.brightness=0 "
        "--set augmentation.contrast=0 --set augmentation.saturation=0 "
        "--set augmentation.class_strength.red=2"
    ),
    "preview: spared what is off": _photos(
        "preview photos --out sheet --set augmentation.class_off.red=hue"
    ),
    "preview: hues of grey pictures": _grey(
        "preview photos --out sheet --set augmentation.hue=0.1"
    ),
    "preview: insisting without a check": _photos(
        "preview photos --out sheet --set augmentation.insist=true "
        "--set augmentation.label_check=off"
    ),
    "preview: no such model": _photos("preview photos --out sheet --check run"),
    "preview: a model of other classes": _bundle(
        "preview photos --out sheet --check bundle", ("cat", "dog")
    ),
    "audit: no such pictures": _plain("audit photos"),
    "audit: nothing readable": _unreadable("audit photos --out audit"),
    "audit: out is a file": lambda folder: (
        _photos("")(folder) + _file("audit", "audit photos --out audit")(folder)
    ),
    "audit: fix is no CSV": _photos("audit photos --out audit --fix list.txt"),
    "audit: fix exists": lambda folder: (
        _photos("")(folder) + _file("list.csv", "audit photos --out audit --fix list.csv")(folder)
    ),
    "audit: decisions without fix": _photos("audit photos --out audit --decisions labels.csv"),
    "audit: decisions that are none": lambda folder: (
        _photos("")(folder)
        + _file(
            "labels.csv",
            "audit photos --out audit --fix list.csv --decisions labels.csv",
            "cat,dog\n",
        )(folder)
    ),
    "audit: against what is no run": _photos("audit photos --out audit --against run"),
    "evidence: too few pictures": _photos("evidence photos --out study", count=12),
    "evidence: too few groups": _photos(
        r"evidence photos --out study --group-by 0(\d)\d\.png", count=45
    ),
    "evidence: a practice that is off": _photos(
        "evidence photos --out study --practices imbalance --set imbalance.method=none"
    ),
    "evidence: a transfer from nowhere": _photos(
        "evidence photos --out study --practices transfer --set transfer.weights=random"
    ),
    "evidence: even classes": _photos(
        "evidence photos --out study --practices imbalance", count=45
    ),
    "evidence: a folder of other pictures": lambda folder: (
        _photos("", count=45)(folder)
        + _file(
            "study/trials/data.json",
            "evidence photos --out study",
            '{"digest": "0123456789abcdef"}',
        )(folder)
    ),
    "evidence: the run of a training": lambda folder: (
        _photos("")(folder) + _file("run/report.json", "evidence photos --out run", "{}")(folder)
    ),
    "report: a study of other data": lambda folder: (
        _file(
            "run/report.json", "", '{"schema": "sevenfold.report/1", "data": {"name": "photos"}}'
        )(folder)
        + _file(
            "study/evidence.json",
            "report run study",
            '{"schema": "sevenfold.evidence/1", "data": "clothes"}',
        )(folder)
    ),
    "train: out among the photos": _photos("train photos --out photos/blue/run"),
    "curve: out among the photos": _photos("curve photos --out photos"),
    "predict: no pictures": lambda folder: (
        (folder / "empty").mkdir() or _bundle("predict bundle empty")(folder)
    ),
    "predict: no such column": lambda folder: _beside(
        "list.csv", "predict bundle list.csv --columns path=picture", "file,label\n"
    )(folder),
    "predict: a column that is not read": _bundle("predict bundle photos --columns label=kind"),
    "serve: an address of another machine": _bundle("serve bundle --host 192.0.2.1 --port 0"),
    "serve: a name that is none": _bundle("serve bundle --allow-host https://photos.example"),
    "distill: no such run": _plain("distill run"),
    "distill: a damaged run": _file("run/report.json", "distill run", "{"),
    "distill: a run of another version": _file(
        "run/report.json", "distill run", '{"schema": "x/9"}'
    ),
    "prune: no such run": _plain("prune run --target macs=0.6"),
    "prune: a drop that is no share": _plain("prune run --target macs=0.6 --max-drop 2"),
    "prune: an unknown ranking": _plain("prune run --target macs=0.6 --ranking size"),
    "prune: a target twice": _plain("prune run --target macs=0.6,macs=0.5"),
    "prune: no steps": _plain("prune run --target macs=0.6 --steps 0"),
    "prune: latencies of no use": _plain("prune run --target macs=0.6 --latency-table phone.json"),
    "prune: a target of nothing": _plain("prune run --target macs=0"),
    "predict: a table of another model": _beside(
        "out.csv",
        "predict bundle photos --out out.csv",
        "path,label,probability,p:blue,p:red,sure,unlike,model\r\nx,red,0.5,0.5,0.5,yes,no,0a0a\r\n",
    ),
    "suggest: parts of pictures": _beside(
        "list.csv",
        "suggest bundle list.csv --out out",
        'path,box\nphotos/red/000.png,"0,0,0.5,1"\n',
    ),
    "serve: no such model": _plain("serve bundle"),
    "serve: two places to listen": _bundle("serve bundle --lan --host 10.0.0.1"),
    "serve: an address that is none": _bundle("serve bundle --host nowhere.invalid"),
    "serve: a port that is none": _plain("serve bundle --port 70000"),
    "serve: a damaged bundle": _damaged_bundle,
    "serve: a bundle of another version": _strange_card,
    "serve: classes that are no folders": _bundle(
        "serve bundle --port 0 --collect kept", ("blue", "Blue")
    ),
    "compare: no such side": _plain("compare a.csv b.csv"),
    "compare: no table of predictions": _tables("x,y\n1,2\n", "x,y\n1,2\n"),
    "compare: a table of no text": _tables("", ""),
    "compare: a row of no answer": _tables(
        "path,label,answer\n1.jpg,cat,cat\n", "path,label,answer\n1.jpg,cat\n"
    ),
    "compare: no picture in common": _tables(
        "path,label,answer\n1.jpg,cat,cat\n", "path,label,answer\n2.jpg,cat,cat\n"
    ),
    "compare: no label anywhere": _tables(
        "path,answer\n1.jpg,cat\n2.jpg,dog\n", "path,answer\n1.jpg,dog\n2.jpg,dog\n"
    ),
    "compare: two labels for one picture": _tables(
        "path,label,answer\n1.jpg,cat,cat\n2.jpg,dog,dog\n",
        "path,label,answer\n1.jpg,dog,cat\n2.jpg,dog,dog\n",
    ),
    "compare: a picture twice": _tables(
        "path,label,answer\n1.jpg,cat,cat\n2.jpg,dog,dog\n1.jpg,cat,dog\n",
        "path,label,answer\n1.jpg,cat,cat\n2.jpg,dog,dog\n",
    ),
    "compare: no such column": lambda folder: (
        _tables("path,answer\n1.jpg,cat\n", "path,answer\n1.jpg,cat\n")(folder)
        + " --table-columns path=file"
    ),
    "compare: a column that is not read": lambda folder: (
        _tables("path,answer\n1.jpg,cat\n", "path,answer\n1.jpg,cat\n")(folder)
        + " --table-columns pixels=file"
    ),
    "compare: columns of no table": _bundle(
        "compare bundle bundle --data photos --table-columns path=file"
    ),
    "compare: no such pictures": lambda folder: (
        _tables("path,answer\n1.jpg,cat\n", "path,answer\n1.jpg,cat\n")(folder) + " --data photos"
    ),
    "bench: no models": _plain("bench"),
    "bench: no such model": _plain("bench bundle"),
    "bench: one model twice": _bundle("bench bundle bundle"),
    "bench: no rounds": _bundle("bench bundle --rounds 0"),
    "export: no format": _plain("export run"),
    "export: an unknown format": _plain("export run --to coreml"),
    "export: no such run": _plain("export run --to html"),
    "export: a damaged run": _file("run/report.json", "export run --to html", "{"),
    "export: a setting of another format": _plain("export run --to html --for-size"),
    "export: a drop that is no share": _plain("export run --to int8 --max-drop 2"),
    "report: no such run": _plain("report run"),
    "report: a damaged run": _file("run/report.json", "report run", "{"),
    "report: a run of another version": _file("run/report.json", "report run", '{"schema": "x/9"}'),
}
