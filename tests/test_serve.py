import asyncio
import base64
import hashlib
import html
import io
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from bundles import colour, knowing, seal, tiny_bundle
from sevenfold import cli, predict, serve
from sevenfold.data import scan
from sevenfold.errors import ResourceError, UsageError
from sevenfold.serve import collect, protocol, run

CLASSES = ("one", "two", "three")
INFER = "/v2/models/classifier/infer"
HOSTILE = ("</script><script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}")
BASE = "http://127.0.0.1:8000"


def picture(k: int = 1, kind: str = "PNG", classes: int = 3, **options) -> bytes:
    pixels = np.broadcast_to(np.asarray(colour(k, classes), np.uint8), (9, 12, 3))
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, kind, **options)
    return file.getvalue()


def client(folder: Path, classes=CLASSES, **settings) -> TestClient:
    bundle = folder if (folder / "model.onnx").exists() else tiny_bundle(folder / "b", classes)
    app = serve.application(predict.load(bundle, threads=1), serve.Settings(**settings))
    return TestClient(app, base_url=BASE)


@pytest.fixture
def server(tmp_path):
    with client(tmp_path) as made:
        yield made


def refused(reply, status: int, words: str) -> None:
    assert reply.status_code == status, reply.text
    facts = reply.json()
    assert set(facts) == {"problem", "cure"}
    assert words in facts["problem"]


def tensor(pixels: np.ndarray, **changes) -> dict:
    one = {"name": "image", "datatype": "UINT8", "shape": list(pixels.shape)}
    return {"inputs": [one | {"data": pixels.ravel().tolist()} | changes]}


PIXELS = np.full((2, 4, 5, 3), colour(2, 3), np.uint8)


def test_predict_gives_what_the_predictor_gives(server, tmp_path):
    for kind in ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"):
        data = picture(1, kind)
        facts = server.post("/predict", content=data).json()
        expected = predict.load(tmp_path / "b").answer(data, "it")
        assert facts["label"] == "two"
        assert facts["probability"] == expected.probability
        assert facts["probabilities"] == dict(zip(CLASSES, expected.probabilities, strict=True))
        assert facts["seconds"] > 0
        assert "sure" not in facts
        assert "id" not in facts


@pytest.mark.parametrize(("least", "sure"), [(0.0, True), (1.0, False)])
def test_the_operating_point_says_what_is_sure(tmp_path, least, sure):
    bundle = knowing(tiny_bundle(tmp_path / "b", CLASSES), {"two": least})
    with client(bundle) as server:
        assert server.post("/predict", content=picture(1)).json()["sure"] is sure
        assert server.post("/predict", content=picture(0)).json()["sure"] is True
        assert "not sure" in server.get("/").text


def test_what_is_unlike_training_is_marked_and_counted(tmp_path):
    bundle = knowing(tiny_bundle(tmp_path / "b", CLASSES), {"two": 1.0})
    grey = io.BytesIO()
    Image.fromarray(np.full((9, 12, 3), 128, np.uint8)).save(grey, "PNG")
    with client(bundle) as server:
        facts = server.post("/predict", content=grey.getvalue()).json()
        assert facts["unlike"] is True
        assert facts["distance"] > 0.2
        for _ in range(30):
            assert server.post("/predict", content=picture(1)).json()["unlike"] is False
        found = {
            sample.name: sample.value
            for family in text_string_to_metric_families(server.get("/metrics").text)
            for sample in family.samples
            if not sample.labels
        }
    assert found["sevenfold_unlike_total"] == 1
    assert found["sevenfold_not_sure_total"] == 30
    assert found["sevenfold_mix_distance"] > 0.6
    assert found["sevenfold_mix_p"] < 0.001
    assert 0 < found["sevenfold_distance_shift"] <= 1


def test_infer_answers_flat_and_nested_numbers_alike(server, tmp_path):
    expected = predict.load(tmp_path / "b").probabilities(PIXELS[0])
    for data in (PIXELS.ravel().tolist(), PIXELS.tolist()):
        facts = server.post(INFER, json=tensor(PIXELS, data=data) | {"id": "a1"}).json()
        assert facts["id"] == "a1"
        shares, logits = facts["outputs"]
        assert (shares["name"], shares["datatype"], shares["shape"]) == (
            "probabilities",
            "FP32",
            [2, 3],
        )
        assert logits["name"] == "logits"
        np.testing.assert_allclose(shares["data"], np.tile(expected, 2), atol=1e-6)
    asked = tensor(PIXELS) | {"outputs": [{"name": "features"}]}
    (features,) = server.post(INFER, json=asked).json()["outputs"]
    assert features["shape"] == [2, 3, 8, 8]


WRONG = {
    "no JSON": b"{",
    "deep": b"[" * 100_000,
    "no object": b"[]",
    "no input": b"{}",
    "many digits": b'{"inputs": ' + b"9" * 10_000 + b"}",
    "name": tensor(PIXELS, name="x"),
    "datatype": tensor(PIXELS, datatype="FP32"),
    "no shape": tensor(PIXELS, shape=None),
    "grey": tensor(PIXELS, shape=[2, 4, 15, 1]),
    "negative side": tensor(PIXELS, shape=[-2, -4, 5, 3]),
    "huge": tensor(PIXELS, shape=[1, 10**9, 10**9, 3]),
    "batch": tensor(PIXELS, shape=[40, 1, 1, 3]),
    "few": tensor(PIXELS, data=[1, 2]),
    "beyond 255": tensor(PIXELS, data=[256] * 120),
    "fractions": tensor(PIXELS, data=[0.5] * 120),
    "texts": tensor(PIXELS, data=["a" * 120]),
    "ragged": tensor(PIXELS, data=[[1, 2], 3]),
    "a number": tensor(PIXELS, data=10**9),
    "mappings": tensor(PIXELS, data=[{}] * 120),
    "output": tensor(PIXELS) | {"outputs": [{"name": "x"}]},
    "outputs": tensor(PIXELS) | {"outputs": {"name": "x"}},
    "id": tensor(PIXELS) | {"id": "\ud800"},
}


@pytest.mark.parametrize("body", WRONG.values(), ids=WRONG)
def test_infer_refuses(server, body):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    reply = server.post(INFER, content=content)
    assert reply.status_code == 400
    assert set(reply.json()) == {"problem", "cure"}


def test_the_protocol_describes_server_and_model(server):
    assert server.get("/v2").json()["name"] == "sevenfold"
    about = server.get("/v2/models/classifier").json()
    assert about["parameters"]["classes"] == list(CLASSES)
    assert about["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, -1, -1, 3]}]
    assert {one["name"]: one["shape"] for one in about["outputs"]} == {
        "probabilities": [-1, 3],
        "logits": [-1, 3],
        "features": [-1, 3, 8, 8],
    }
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/classifier/ready"):
        assert server.get(path).status_code == 200
    refused(server.get("/v2/models/other"), 404, "nothing at this address")


def test_features_are_described_as_the_graph_gives_them(tmp_path):
    shapes = {"features": ["batch", 197, 192], "probabilities": ["batch", 3], "logits": [None, 3]}
    outputs = [SimpleNamespace(name=name, shape=shape) for name, shape in shapes.items()]
    opened = predict.load(tiny_bundle(tmp_path, CLASSES))
    vit = replace(opened, session=SimpleNamespace(get_outputs=lambda: outputs))
    told = {one["name"]: one["shape"] for one in protocol.model(vit)["outputs"]}
    assert told == {"probabilities": [-1, 3], "logits": [-1, 3], "features": [-1, 197, 192]}


def test_hostile_bodies_are_refused_with_a_reason(server):
    whole = picture(1, "JPEG")
    draw = np.random.default_rng(0)
    bodies = [b"", b"\0" * 100, b"<svg/>", whole[:-20], whole[:200]]
    bodies += [draw.bytes(500) for _ in range(40)]
    for _ in range(60):
        broken = bytearray(picture(1, ("PNG", "GIF", "TIFF")[draw.integers(3)]))
        for place in draw.integers(0, len(broken), 6):
            broken[place] = draw.integers(256)
        bodies.append(bytes(broken))
    for body in bodies:
        reply = server.post("/predict", content=body)
        assert reply.status_code in (200, 422)
        if reply.status_code == 422:
            assert set(reply.json()) == {"problem", "cure"}
    refused(server.post("/predict", content=whole[:-20]), 422, "cut short")


def test_a_picture_of_too_many_pixels_is_refused_by_its_header(server):
    file = io.BytesIO()
    Image.new("1", (6000, 5000)).save(file, "PNG")
    refused(server.post("/predict", content=file.getvalue()), 422, "6000 x 5000 pixels")


def test_a_large_body_is_refused_however_it_is_sent(tmp_path):
    with client(tmp_path, largest=1000) as server:
        refused(server.post("/predict", content=b"x" * 1001), 413, "1,000 bytes")
        refused(server.post("/predict", content=iter([b"x" * 600] * 2)), 413, "1,000 bytes")
        refused(
            server.post("/predict", content=b"", headers={"Content-Length": "9" * 15}), 413, "bytes"
        )
        assert server.post("/predict", content=picture()).status_code == 200


def test_a_form_is_told_from_a_damaged_picture(server):
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    body = b"--x\r\nContent-Disposition: form-data; name=file\r\n\r\n" + picture() + b"\r\n--x--"
    refused(server.post("/predict", content=body, headers=form), 422, "the body is a form")
    assert server.post("/predict", content=picture(), headers=form).status_code == 200
    refused(server.post("/predict", content=body), 422, "not a readable")


def test_addresses_and_methods_that_are_not_there(server):
    refused(server.get("/../../etc/passwd"), 404, "nothing")
    refused(server.get("/predict"), 405, "Method")
    refused(server.post("/correct", content=b"{}"), 404, "nothing")
    refused(server.post("/v2/repository/models/classifier/load"), 404, "nothing")


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:8000", "192.168.1.5", "Me"])
def test_hosts_that_are_ours(tmp_path, host):
    with client(tmp_path, names=frozenset({"me"})) as server:
        assert server.get("/healthz", headers={"Host": host}).status_code == 200


def test_a_proxys_name_is_allowed_by_option(monkeypatch):
    asked = {}
    monkeypatch.setattr(serve, "serve", lambda model, settings, **more: asked.update(s=settings))
    command = ["serve", "runs/a", "--allow-host", "Photos.Example", "--allow-host", "two"]
    assert cli.main(command) == 0
    assert asked["s"].names == {"photos.example", "two"}
    for wrong in ("https://photos.example", "a b", "photos.example:80", ""):
        assert cli.main(["serve", "runs/a", "--allow-host", wrong]) == 2


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "[::1", "a b"])
def test_a_rebound_name_is_refused(server, host):
    refused(server.get("/healthz", headers={"Host": host}), 421, "another host")


def test_pages_of_other_sites_are_refused(server):
    for origin in ("https://evil.example", "null", "http://127.0.0.1:9", "file://127.0.0.1:8000"):
        reply = server.post("/predict", content=picture(), headers={"Origin": origin})
        refused(reply, 403, "another site")
        assert not any(name.startswith("access-control") for name in reply.headers)
    reply = server.post("/predict", content=picture(), headers={"Origin": BASE})
    assert reply.status_code == 200
    assert not any(name.startswith("access-control") for name in reply.headers)


def test_a_token_is_asked_for_but_by_health_checks(tmp_path):
    with client(tmp_path, token="s3cret") as server:
        for path in ("/", "/metrics", "/openapi.json", "/v2", "/?token=wrong", "/?token="):
            refused(server.get(path), 401, "token")
        assert server.get("/?token=s3cret").status_code == 200
        bearer = {"Authorization": "Bearer s3cret"}
        assert server.post("/predict", content=picture(), headers=bearer).status_code == 200
        wrong = {"Authorization": "Bearer \xfc".encode("latin-1")}
        refused(server.post("/predict", content=picture(), headers=wrong), 401, "token")
        assert server.get("/healthz").status_code == 200
        assert server.get("/readyz").status_code == 200
    assert "s3cret" not in repr(serve.Settings(token="s3cret"))


def test_a_full_queue_says_when_to_come_back(tmp_path, monkeypatch):
    begun, go = threading.Event(), threading.Event()
    ask = predict.Predictor.see

    def slow(self, pixels):
        if pixels.shape == (9, 12, 3):
            begun.set()
            assert go.wait(20)
        return ask(self, pixels)

    monkeypatch.setattr(predict.Predictor, "see", slow)
    with client(tmp_path, sessions=1, queue=0) as server:
        found = []
        first = threading.Thread(
            target=lambda: found.append(server.post("/predict", content=picture()))
        )
        first.start()
        assert begun.wait(20)
        reply = server.post("/predict", content=picture())
        refused(reply, 503, "waiting")
        assert reply.headers["Retry-After"] == "1"
        assert server.get("/healthz").status_code == 200
        assert metric(server, "sevenfold_places_taken") == 1
        go.set()
        first.join(20)
        assert found[0].status_code == 200
        assert server.post("/predict", content=picture()).status_code == 200


def test_an_answer_that_takes_too_long_is_given_up(tmp_path, monkeypatch):
    go = threading.Event()
    ask = predict.Predictor.see

    def slow(self, pixels):
        if pixels.shape == (9, 12, 3):
            go.wait(20)
        return ask(self, pixels)

    monkeypatch.setattr(predict.Predictor, "see", slow)
    with client(tmp_path, seconds=0.05) as server:
        reply = server.post("/predict", content=picture())
        go.set()
        refused(reply, 503, "no answer after")
        assert metric(server, "sevenfold_places_taken") == 0


def test_a_body_that_does_not_come_is_given_up(tmp_path):
    bundle = tiny_bundle(tmp_path / "b", CLASSES)
    settings = serve.Settings(seconds=0.05)
    app = serve.application(predict.load(bundle, threads=1), settings)
    sent = []

    async def talk() -> None:
        async def send(message):
            sent.append(message)

        messages = iter([{"type": "lifespan.startup"}])

        async def life():
            return next(messages, None) or await asyncio.Event().wait()

        living = asyncio.create_task(app({"type": "lifespan", "state": {}}, life, send))
        while not sent:
            await asyncio.sleep(0.01)

        async def never():
            await asyncio.Event().wait()

        headers = [(b"host", b"localhost")]
        scope = {"type": "http", "method": "POST", "path": "/predict", "raw_path": b"/predict"}
        scope |= {"headers": headers, "query_string": b"", "root_path": "", "scheme": "http"}
        await app(scope, never, send)
        living.cancel()

    asyncio.run(talk())
    assert sent[0]["type"] == "lifespan.startup.complete"
    assert sent[1]["status"] == 408


def stored(bundle: Path, shares: list[float]) -> None:
    facts = {
        "schema": "sevenfold.selftest/1",
        "picture": base64.b64encode(picture(1)).decode(),
        "probabilities": shares,
    }
    (bundle / "selftest.json").write_text(json.dumps(facts), "utf-8")
    seal(bundle)


def test_ready_only_if_the_stored_picture_gets_its_stored_answer(tmp_path):
    bundle = tiny_bundle(tmp_path / "b", CLASSES)
    right = predict.load(bundle).answer(picture(1), "it").probabilities
    stored(bundle, list(right))
    with client(bundle) as server:
        assert server.get("/readyz").json() == {"ready": True}
    for wrong in ([0.2, 0.5, 0.3], [0.5, 0.5], [float("nan")] * 3, ["x"] * 3):
        stored(bundle, wrong)
        with client(bundle) as server:
            for path in ("/readyz", "/v2/health/ready", "/v2/models/classifier/ready"):
                assert server.get(path).status_code == 503
            assert server.post("/predict", content=picture()).status_code == 503
            assert server.get("/healthz").status_code == 200


def test_a_stored_picture_that_the_sums_do_not_name_is_not_looked_at(tmp_path):
    bundle = tiny_bundle(tmp_path / "b", CLASSES)
    (bundle / "selftest.json").write_text("junk", encoding="utf-8")
    with client(bundle) as server:
        assert server.get("/readyz").json() == {"ready": True}


def metric(server, name: str, **labels) -> float:
    families = text_string_to_metric_families(server.get("/metrics").text)
    samples = [sample for family in families for sample in family.samples]
    return next(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())


def test_metrics_count_and_no_client_adds_a_label(tmp_path):
    with client(tmp_path, (*CLASSES, 'a"b\\c d')) as server:
        server.post("/predict", content=picture(1, classes=4))
        for number in range(5):
            server.get(f"/secret{number}")
        assert metric(server, "sevenfold_answers_total", label="two") == 1
        assert metric(server, "sevenfold_answers_total", label="one") == 0
        assert metric(server, "sevenfold_answers_total", label='a"b\\c d') == 0
        assert metric(server, "sevenfold_requests_total", path="other", status="404") == 5
        assert "secret" not in server.get("/metrics").text


def test_the_page_runs_only_its_own_script_and_escapes_classes(tmp_path):
    with client(tmp_path, HOSTILE) as server:
        reply = server.get("/")
    page, policy = reply.text, reply.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        (part,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy
    for label in HOSTILE[:2]:
        assert label not in page
    assert "Calibrated" not in page
    assert "{{ 7 * 7 }}" in page
    bare = re.sub(r"<script>.*</script>", "", page, flags=re.DOTALL)
    for label in HOSTILE:
        bare = bare.replace(html.escape(label).replace("&quot;", "&#34;"), "")
    assert not re.search(r"\b(src|href|style|on\w+)\s*=|@import", bare)
    assert not re.search(r"https?:|eval\(", page)
    assert "capture=" in page
    assert "innerHTML" not in page


def test_collected_pictures_wait_for_a_person_and_then_train(tmp_path):
    folder = tmp_path / "kept"
    exif = Image.Exif()
    exif[0x010E] = "at home"
    exif[0x0112] = 6
    data = picture(1, "JPEG", exif=exif)
    with client(tmp_path, collect=folder) as server:
        first = server.post("/predict", content=data).json()["id"]
        assert server.post("/predict", content=data).json()["id"] == first
        other = server.post("/predict", content=picture(0)).json()["id"]
        kept = folder / "unlabelled" / f"{first}.jpg"
        assert b"at home" not in kept.read_bytes()
        with Image.open(kept) as found:
            assert found.size == (9, 12)  # turned upright
            assert not found.getexif()
        for label in ("three", "one"):
            reply = server.post("/correct", json={"id": first, "label": label})
            assert reply.status_code == 200
        for wrong in ({"id": "../x", "label": "one"}, {"id": first, "label": "../x"}):
            refused(server.post("/correct", json=wrong), 404, "no such picture")
        for wrong in (b"{", b"[]", b"{}"):
            refused(server.post("/correct", content=wrong), 400, "no correction")
        assert server.post("/correct", json={"id": ["a"], "label": {}}).status_code == 404
    files = {str(p.relative_to(folder).as_posix()) for p in folder.rglob("*") if p.is_file()}
    assert files == {"answers.csv", f"unlabelled/{other}.jpg", f"labelled/one/{first}.jpg"}
    rows = (folder / "answers.csv").read_text("utf-8").splitlines()
    assert rows[0] == "time,id,label,probability,by"
    assert [row.rpartition(",")[2] for row in rows[1:]] == ["model"] * 3 + ["person"] * 2
    with client(tmp_path / "b", collect=folder) as server:  # after a restart
        assert server.post("/correct", json={"id": first, "label": "two"}).status_code == 200
    assert (folder / "labelled" / "two" / f"{first}.jpg").is_file()


def test_an_answer_that_a_full_disk_cut_off_does_not_take_the_next_one_along(tmp_path):
    folder = tmp_path / "kept"
    with client(tmp_path, collect=folder) as server:
        server.post("/predict", content=picture(0))
    answers = folder / "answers.csv"
    whole = answers.read_bytes()
    answers.write_bytes(whole[:-9])
    for more in (1, 2):
        with client(tmp_path / str(more), collect=folder) as server:
            server.post("/predict", content=picture(more))
    lines = answers.read_bytes().split(b"\r\n")
    assert lines[:2] == whole[:-9].split(b"\r\n")
    assert [line.endswith(b",model") for line in lines[2:]] == [True, True, False]
    assert not lines[4]


def test_where_nothing_can_be_kept_answers_go_on(tmp_path, monkeypatch):
    folder = tmp_path / "kept"
    with client(tmp_path, collect=folder) as server:
        monkeypatch.setattr(Image.Image, "save", broken)
        reply = server.post("/predict", content=PICTURE)
        assert reply.status_code == 200
        assert reply.json()["label"]
        assert "id" not in reply.json()
        assert b"sevenfold_not_kept_total 1.0" in server.get("/metrics").content


def broken(*_: object, **__: object) -> None:
    raise OSError("encoder error -2 when writing image file")


PICTURE = picture(1)


def test_what_a_kill_tore_in_a_collection_is_kept_anew(tmp_path):
    folder = tmp_path / "kept"
    with client(tmp_path, collect=folder) as server:
        name = server.post("/predict", content=PICTURE).json()["id"]
    whole = folder / "unlabelled" / f"{name}.jpg"
    size = whole.stat().st_size
    whole.rename(whole.with_suffix(".part"))
    whole.with_suffix(".part").write_bytes(b"\xff\xd8")
    with client(tmp_path / "b", collect=folder) as server:
        assert server.post("/predict", content=PICTURE).json()["id"] == name
    assert whole.stat().st_size == size
    assert not list(folder.rglob("*.part"))


def test_pictures_that_people_filed_by_hand_are_read(tmp_path):
    folder = tmp_path / "kept"
    with client(tmp_path, collect=folder) as server:
        server.post("/predict", content=PICTURE)
    filed = folder / "labelled"
    for place in ("one/a.png", "two/deep/b.JPG", ".ipynb_checkpoints/c.jpg"):
        (filed / place).parent.mkdir(parents=True, exist_ok=True)
        (filed / place).write_bytes(PICTURE)
    (filed / "one" / "notes.txt").write_text("none", encoding="utf-8")
    (filed / "empty").mkdir()
    listing = scan(str(folder))
    assert [(one.path, one.label) for one in listing.photos] == [
        ("one/a.png", "one"),
        ("two/deep/b.JPG", "two"),
    ]
    assert [one.path for one in listing.quarantined] == ["one/notes.txt"]
    assert listing.name == "kept"


def test_what_others_move_or_delete_is_kept_anew(tmp_path):
    folder = tmp_path / "kept"
    with client(tmp_path, collect=folder) as server:
        name = server.post("/predict", content=PICTURE).json()["id"]
        (kept,) = folder.rglob(f"{name}.jpg")
        kept.unlink()
        told = {"id": name, "label": "one"}
        assert server.post("/correct", json=told).status_code == 404
        assert server.post("/predict", content=PICTURE).json()["id"] == name
        assert kept.is_file()
        assert server.post("/correct", json=told).status_code == 200


def test_a_full_collection_that_was_emptied_takes_pictures_again(tmp_path, monkeypatch):
    monkeypatch.setattr(collect, "_PAUSE", 0.0)
    pixels = np.full((20, 20, 3), 90, np.uint8)
    large = tmp_path / "kept" / "labelled" / "large.bin"
    large.parent.mkdir(parents=True)
    large.write_bytes(bytes(2000))
    found = collect.Collection(tmp_path / "kept", ("a", "b"), 2500)
    assert not found.keep(pixels, "a", 0.5)
    large.unlink()
    assert found.keep(pixels, "a", 0.5)


def test_a_collection_keeps_its_bound_and_answers_go_on(tmp_path):
    folder, draw = tmp_path / "kept", np.random.default_rng(0)
    with client(tmp_path, collect=folder, collect_bytes=6000) as server:
        kept = 0
        for _ in range(12):
            file = io.BytesIO()
            Image.fromarray(draw.integers(0, 256, (20, 20, 3), np.uint8)).save(file, "PNG")
            reply = server.post("/predict", content=file.getvalue())
            assert reply.status_code == 200
            kept += "id" in reply.json()
    assert 0 < kept < 12
    held = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert held <= 6000


@pytest.mark.parametrize("label", ["../up", "a/b", "con", ".hidden", "dot.", "a:b", "x" * 300])
def test_classes_that_are_no_folder_names_are_not_collected(tmp_path, label):
    with pytest.raises(UsageError, match="folder"):
        client(tmp_path, ("one", label), collect=tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_classes_that_differ_in_capitals_are_not_collected(tmp_path):
    with pytest.raises(UsageError, match="capital"):
        client(tmp_path, ("one", "One"), collect=tmp_path / "kept")


def test_every_address_is_in_the_document(tmp_path):
    with client(tmp_path, collect=tmp_path / "kept", token="t") as server:
        found = server.get("/openapi.json?token=t").json()
        assert found["openapi"] == "3.1.0"
        for path, methods in found["paths"].items():
            for method in methods:
                reply = server.request(method, path, params={"token": "t"})
                assert reply.status_code in {int(s) for s in methods[method]["responses"]}, path
        text = json.dumps(found)
        for name in re.findall(r"#/components/schemas/(\w+)", text):
            assert name in found["components"]["schemas"]


def test_serving_needs_no_torch(tmp_path):
    bundle = tiny_bundle(tmp_path / "b", CLASSES)
    code = (
        "import sys; from pathlib import Path; from sevenfold import predict, serve;"
        f"serve.application(predict.load(Path({str(bundle)!r})), serve.Settings());"
        "assert not {'torch', 'timm', 'cv2'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_an_address_that_is_taken_or_unknown_is_named(tmp_path, monkeypatch):
    bundle = tiny_bundle(tmp_path / "b", CLASSES)

    def unknown(*_given, **_named):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", unknown)
        with pytest.raises(UsageError, match="no such address"):
            serve.serve(bundle, serve.Settings(), host="no.such.host", started=print)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ResourceError, match=str(port)):
            serve.serve(bundle, serve.Settings(), port=port, started=print)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to one process")
@pytest.mark.parametrize("lan", [False, True])
def test_the_command_serves_until_it_is_interrupted(tmp_path, lan):
    bundle = tiny_bundle(tmp_path / "b", CLASSES)
    command = [sys.executable, "-m", "sevenfold.cli", "serve", str(bundle), "--port", "0"]
    with subprocess.Popen(
        command + ["--lan"] * lan, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            lines = iter(process.stdout.readline, "")
            url = urlsplit(next(line for line in lines if line.startswith("http")).strip())
            assert bool(url.query) is lan
            ask = urllib.request.Request(
                f"http://127.0.0.1:{url.port}/predict?{url.query}", data=picture(1)
            )
            with urllib.request.urlopen(ask, timeout=20) as reply:
                assert json.load(reply)["label"] == "two"
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 0
    assert "Traceback" not in said


def test_the_listening_socket_is_known_as_tcp_so_that_answers_are_sent_at_once() -> None:
    with run._socket("127.0.0.1", 0) as listening:
        assert listening.proto == socket.IPPROTO_TCP
        with socket.create_connection(listening.getsockname()):
            accepted, _ = listening.accept()
            with accepted:
                assert accepted.proto == socket.IPPROTO_TCP
