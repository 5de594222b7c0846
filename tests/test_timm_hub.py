"""The export to timm: timm itself loads what was written, offline, and answers the same."""

import importlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from PIL import Image

import photos
from sevenfold import cli, data, exports, predict, runs
from sevenfold import export as graphs
from sevenfold.errors import GateRefused, UsageError
from sevenfold.exports import Asked, timm_hub, verify
from sevenfold.practices import transfer
from sevenfold.practices.transfer import Transfer
from sevenfold.progress import silent

parting = importlib.import_module("sevenfold.data.split")
CLASSES = ("blue", "green", "red")
SIDE, TEMPERATURE = 32, 1.7
SETTINGS = Transfer(backbone="test_resnet", weights="random")


def drawn(settings: Transfer, side: int = SIDE):
    """Build a network whose head is drawn, so that its answers differ."""
    network, _ = transfer.build(settings, len(CLASSES), side, 0)
    head = torch.Generator().manual_seed(1)
    with torch.no_grad():
        network.head.weight.normal_(generator=head)
        network.head.bias.normal_(generator=head)
    return network


@pytest.fixture(scope="module")
def network():
    return drawn(SETTINGS)


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    place = photos.write(tmp_path_factory.mktemp("photos"), dict.fromkeys(CLASSES, 10), side=57)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parting, "SMALL_DATA", 10)
        return data.split(data.read(str(place)), val=0.4, test=0.2)


@pytest.fixture(scope="module")
def model(network):
    core = graphs.core(graphs.Shipped(network, mirror=False).eval(), SIDE)
    return graphs.assemble(core, SIDE, len(CLASSES), TEMPERATURE)


@pytest.fixture
def opened(network, split, model, tmp_path, monkeypatch):
    """Write what the export reads of a finished run."""
    card = {
        "schema": "sevenfold.card/1",
        "title": "colours",
        "classes": list(CLASSES),
        "size": SIDE,
        "temperature": TEMPERATURE,
    }
    graphs.write(tmp_path / "run" / "bundle", model, CLASSES, card, "# A model\n")
    found = SimpleNamespace(
        folder=tmp_path / "run",
        split=split,
        facts={"ensembling": {"ships": "member"}},
        members=(),
        network=network,
        built=SETTINGS,
        recipe=SimpleNamespace(ensembling=SimpleNamespace(mirror=False)),
    )
    monkeypatch.setattr(runs, "reopened", lambda *_, **__: found)
    return found


def made(opened) -> Path:
    out = opened.folder / "out"
    exports.export(opened.folder, Asked("timm"), out=out, data="", threads=1, progress=silent)
    return out


def loaded(folder: Path):
    return timm.create_model(f"local-dir:{folder}", pretrained=True).eval()


def test_timm_loads_it_and_its_own_transform_gives_the_bundles_answers(opened, split):
    out = made(opened)
    network = loaded(out)
    settings = timm.data.resolve_model_data_config(network)
    assert settings == {
        "input_size": [3, SIDE, SIDE], "interpolation": "bilinear", "crop_pct": 1.0,
        "crop_mode": "squash", "mean": settings["mean"], "std": settings["std"],
    }  # fmt: skip
    transform = timm.data.create_transform(**settings, is_training=False)
    predictor = predict.load(opened.folder)
    for at in split.val.tolist():
        pixels = split.dataset.decode(at)
        with torch.inference_mode():
            shares = network(transform(Image.fromarray(pixels))[None]).softmax(1)[0].numpy()
        expected = predictor.probabilities(pixels)
        assert np.abs(shares - expected).max() < 0.05
        assert shares.argmax() == expected.argmax()
    assert network.pretrained_cfg["label_names"] == list(CLASSES)
    assert network.num_classes == len(CLASSES)


def test_the_export_tells_what_was_measured_on_validation(opened, split):
    out = made(opened)
    told = json.loads((out / "card.json").read_text(encoding="utf-8"))["timm"]
    assert (told["pictures"], told["role"]) == (len(split.val), "validation")
    assert told["top1"] == told["transform"]["top1"] == 1
    assert told["largest_difference"] <= 1e-4
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md", "SHA256SUMS", "card.json", "config.json", "model.safetensors",
    ]  # fmt: skip
    page = (out / "README.md").read_text(encoding="utf-8")
    assert page.startswith("---\nlibrary_name: timm\n")
    assert "onnxruntime.InferenceSession" not in page  # of the bundle, which is not there


def test_the_code_of_its_page_runs(opened, split):
    out = made(opened)
    Image.fromarray(photos.picture("red", 3)).save(out / "photo.png")
    (out / "classify.py").write_text(timm_hub.CODE, encoding="utf-8")
    assert timm_hub.CODE in (out / "README.md").read_text(encoding="utf-8")
    said = subprocess.run(
        [sys.executable, "classify.py", "photo.png"],
        cwd=out, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    expected = predict.load(opened.folder).probabilities(photos.picture("red", 3))
    label, share = said.split()
    assert label == CLASSES[expected.argmax()]
    assert float(share) == pytest.approx(expected.max(), abs=0.05)


@pytest.mark.parametrize(
    ("settings", "side"),
    [
        (Transfer(), 64),  # the default backbone with its packaged weights
        (Transfer(backbone="test_vit", weights="random"), 64),  # knows one size
        (Transfer(backbone="test_convnext", weights="random"), 64),
        (Transfer(backbone="test_byobnet", weights="random"), 64),  # laid out as one block
    ],
    ids=lambda one: getattr(one, "backbone", ""),
)
def test_logits_are_those_of_the_network_by_the_temperature(settings, side, tmp_path):
    network = drawn(settings, side)
    built = timm_hub.as_timm(network, settings.backbone, side, TEMPERATURE)
    for name, content in timm_hub.files(built, side, CLASSES).items():
        (tmp_path / name).write_bytes(content)
    found = loaded(tmp_path)
    pixels = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0)) * 255
    mean, std = (
        torch.tensor(found.pretrained_cfg[name]).view(1, 3, 1, 1) for name in ("mean", "std")
    )
    with torch.inference_mode():
        expected = network(pixels) / TEMPERATURE
        torch.testing.assert_close(
            found((pixels / 255 - mean) / std), expected, rtol=1e-4, atol=1e-4
        )
    names = set(timm.create_model(settings.backbone, num_classes=3).state_dict())
    assert set(safetensors.torch.load_file(tmp_path / "model.safetensors")) == names


def test_the_network_itself_keeps_its_head(network):
    before = network.head.weight.clone()
    timm_hub.as_timm(network, SETTINGS.backbone, SIDE, 3.0)
    assert torch.equal(network.head.weight, before)


def test_weights_that_answer_otherwise_are_refused(opened):
    with torch.no_grad():
        other = drawn(SETTINGS)
        other.head.bias[0] += 1
    opened.network = other
    with pytest.raises(GateRefused, match="timm's network disagrees"):
        made(opened)
    assert not (opened.folder / "out").exists()


def test_a_transform_that_crops_is_refused(opened, monkeypatch):
    real = timm_hub.config

    def cropping(*given):
        found = real(*given)
        found["pretrained_cfg"] |= {"crop_mode": "center", "crop_pct": 0.4}
        return found

    monkeypatch.setattr(timm_hub, "config", cropping)
    with pytest.raises(
        GateRefused, match=r"transform differs from the model's by \d+\.\d grey levels"
    ):
        made(opened)


def test_what_timm_cannot_hold_is_refused_with_a_way_out(opened):
    opened.built = replace(SETTINGS, backbone="resnet20")
    with pytest.raises(UsageError, match="network of Sevenfold's own") as refused:
        made(opened)
    assert "--to onnx" in refused.value.cure
    opened.built = SETTINGS
    opened.recipe.ensembling.mirror = True
    with pytest.raises(UsageError, match="mirror image"):
        made(opened)
    opened.facts["ensembling"]["ships"] = "vote"
    with pytest.raises(UsageError, match="the vote of") as refused:
        made(opened)
    assert "sevenfold distill" in refused.value.cure
    opened.split = replace(opened.split, val=opened.split.val[:0])
    with pytest.raises(UsageError, match="the vote of") as refused:
        made(opened)
    assert "ensembling.distil=true" in refused.value.cure  # no vote is distilled without val


def test_the_command_writes_it(opened, capsys):
    assert cli.main(["export", str(opened.folder), "--to", "timm"]) == 0
    assert "config.json" in capsys.readouterr().out
    assert verify.pictures(opened.split)[0] == "validation"
    assert loaded(opened.folder / "exports" / "timm").num_classes == 3
