import hashlib
import io
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from PIL import Image
from torch import nn

import photos
from sevenfold import bundles, data, export, maps, nets, predict
from sevenfold.errors import GateRefused, ModelError, ResourceError
from sevenfold.features.trunk import session
from sevenfold.practices import ensembling
from sevenfold.practices.ensembling.graph import voting
from sevenfold.serve.selftest import selftest

SIDE = 24
CLASSES = 3


def network() -> nets.Network:
    """Build a very small network with a random head."""
    torch.manual_seed(0)
    blocks = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU()),
        nn.Sequential(nn.Conv2d(6, 8, 3, 2, 1), nn.ReLU()),
    )
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    normalise = nets.Normalise((0.5,) * 3, (0.25,) * 3)
    made = nets.Network(normalise, blocks, pool, nn.Linear(8, CLASSES), dropout=0.2)
    with torch.no_grad():
        made.head.weight.mul_(20)
    return made.eval()


@pytest.fixture(scope="module")
def plain() -> export.Shipped:
    return export.Shipped(network(), mirror=False).eval()


@pytest.fixture(scope="module")
def core(plain: export.Shipped) -> onnx.ModelProto:
    return export.core(plain, SIDE)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return draw.integers(0, 256, (height, width, 3), dtype=np.uint8)


def resized(pixels: np.ndarray, side: int = SIDE) -> torch.Tensor:
    """Resize by the graph and lay out for the network."""
    opened = session(export.resizing(side).SerializeToString(), 1)
    return torch.from_numpy(opened.run(None, {"image": pixels[None]})[0])


SIZES = [(1, 1), (1, 37), (50, 1), (3, 700), (24, 24), (23, 25), (480, 640)] + [
    tuple(pair) for pair in np.random.default_rng(0).integers(2, 300, (13, 2)).tolist()
]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_graph_resizes_as_pillow_does(height, width):
    for side in (SIDE, 32):
        picture = noise(height, width)
        found = resized(picture, side)[0].permute(1, 2, 0).numpy()
        expected = Image.fromarray(picture).resize((side, side), Image.Resampling.BILINEAR)
        assert found.shape == (side, side, 3)
        assert np.abs(found - np.asarray(expected, dtype=np.float32)).max() <= 1
        assert (found == found.round()).all()


def test_resizing_keeps_a_flat_picture_and_one_of_the_right_size():
    flat = np.full((91, 33, 3), 137, np.uint8)
    assert (resized(flat) == 137).all()
    picture = noise(SIDE, SIDE)
    np.testing.assert_array_equal(resized(picture)[0].permute(1, 2, 0).numpy(), picture)


def test_the_graph_takes_batches_of_any_size(core):
    opened = session(export.assemble(core, SIDE, CLASSES, 1.0), 1)
    batch = np.stack([noise(40, 50, seed) for seed in range(3)])
    whole = opened.run(["probabilities"], {"image": batch})[0]
    for at in range(3):
        alone = opened.run(["probabilities"], {"image": batch[at : at + 1]})[0]
        np.testing.assert_allclose(whole[at], alone[0], atol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 2.5, 0.4])
def test_the_assembled_graph_computes_network_and_temperature(plain, core, temperature):
    model = export.assemble(core, SIDE, CLASSES, temperature)
    opened = session(model, 1)
    assert [one.name for one in opened.get_outputs()] == ["probabilities", "logits", "features"]
    picture = noise(60, 45)
    probabilities, logits, features = opened.run(None, {"image": picture[None]})
    with torch.inference_mode():
        raw, maps = plain(resized(picture))
    np.testing.assert_allclose(logits, raw / temperature, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(probabilities, torch.softmax(raw / temperature, 1), atol=1e-5)
    np.testing.assert_allclose(features, maps, rtol=1e-4, atol=1e-4)
    assert features.shape == (1, 8, 6, 6)


def test_the_mirror_votes_inside_the_graph(plain):
    mirrored = export.Shipped(network(), mirror=True).eval()
    opened = session(export.assemble(export.core(mirrored, SIDE), SIDE, CLASSES, 1.0), 1)
    for seed in range(5):
        picture = noise(SIDE, SIDE, seed)
        (found,) = opened.run(["probabilities"], {"image": picture[None]})
        with torch.inference_mode():
            one = torch.softmax(plain(resized(picture))[0], 1)
            other = torch.softmax(plain(resized(picture[:, ::-1]))[0], 1)
        np.testing.assert_allclose(found, (one + other) / 2, atol=1e-5)
    (flipped,) = opened.run(["probabilities"], {"image": picture[None, :, ::-1]})
    np.testing.assert_allclose(found, flipped, atol=1e-5)


def test_denormal_weights_are_set_to_zero(plain):
    made = export.Shipped(network(), mirror=False).eval()
    with torch.no_grad():
        made.network.head.weight[0, 0] = 1e-40
        made.network.head.weight[1, 0] = -3e-42
    core = export.core(made, SIDE)
    tiny = np.finfo(np.float32).tiny
    for weight in core.graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.dtype == np.float32:
            assert not ((values != 0) & (np.abs(values) < tiny)).any(), weight.name
    head = [
        numpy_helper.to_array(one)
        for one in core.graph.initializer
        if list(one.dims) in ([CLASSES, 8], [8, CLASSES])
    ]
    assert any(0 in values for values in head)
    shapes = [list(one.dims) for one in core.graph.initializer]
    assert shapes == [list(one.dims) for one in export.core(plain, SIDE).graph.initializer]


def test_no_traces_of_the_machine_are_left_in_the_file(core):
    model = export.assemble(core, SIDE, CLASSES, 1.0)
    for trace in (b".py", b"/home", b"/root", b"/usr", str(Path.cwd()).encode(), b"forward(",
                  b"site-packages", b"torch", b"self.", b"lambda"):  # fmt: skip
        assert trace not in model, trace
    loaded = onnx.load_from_string(model)
    onnx.checker.check_model(loaded, full_check=True)
    assert loaded.producer_name == "sevenfold"
    assert [one.domain for one in loaded.opset_import] == [""]


def test_the_same_network_gives_the_same_file(plain, core):
    again = export.core(plain, SIDE)
    assert export.assemble(again, SIDE, CLASSES, 1.5) == export.assemble(core, SIDE, CLASSES, 1.5)


@pytest.fixture
def dataset(tmp_path: Path) -> data.Dataset:
    return data.read(str(photos.write(tmp_path / "data", dict.fromkeys(photos.COLOURS, 6))))


def parity(model: bytes, shipped: export.Shipped, dataset: data.Dataset) -> export.Agreement:
    pictures = range(len(dataset))
    (ours,) = export.run(session(model, 1), dataset, pictures, ["probabilities"], 2)
    logits = export.network_logits(shipped, dataset, pictures, side=SIDE, threads=2)
    return export.parity(ours, torch.softmax(torch.from_numpy(logits) / 1.5, dim=1).numpy())


def test_an_honest_graph_passes_the_gate(plain, core, dataset):
    found = parity(export.assemble(core, SIDE, CLASSES, 1.5), plain, dataset)
    assert found.pictures == 18
    assert found.top1 == 1.0
    assert 0 <= found.largest_difference < 1e-5


def tampered(core: onnx.ModelProto, change: float) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(core)
    for weight in copy.graph.initializer:
        if list(weight.dims) in ([CLASSES, 8], [8, CLASSES]):
            values = numpy_helper.to_array(weight) * (1 + change)
            weight.CopyFrom(numpy_helper.from_array(values.astype(np.float32), weight.name))
            return copy
    raise AssertionError("there is no head")


@pytest.mark.parametrize("change", [0.01, -2.0, float("nan")])
def test_a_tampered_graph_is_refused(plain, core, dataset, change):
    model = export.assemble(tampered(core, change), SIDE, CLASSES, 1.5)
    with pytest.raises(GateRefused, match="disagrees with the trained network") as caught:
        parity(model, plain, dataset)
    assert "nothing was exported" in caught.value.cure


def test_another_temperature_is_refused(plain, core, dataset):
    with pytest.raises(GateRefused):
        parity(export.assemble(core, SIDE, CLASSES, 1.0), plain, dataset)


def test_ties_count_as_the_same_answer():
    ours = np.array([[0.50001, 0.49999], [0.3, 0.7]])
    theirs = np.array([[0.49999, 0.50001], [0.3, 0.7]])
    found = export.agreement(ours, theirs, tie=1e-4)
    assert found.top1 == 1.0
    assert found.largest_difference == pytest.approx(2e-5)
    assert export.agreement(ours, theirs[:, ::-1], tie=1e-4).top1 == 0.5


def test_running_keeps_the_order_whatever_the_threads(core, dataset):
    opened = session(export.assemble(core, SIDE, CLASSES, 1.0), 1)
    pictures = [5, 0, 17, 9]
    one, many = (
        export.run(opened, dataset, pictures, ["logits", "probabilities"], threads)
        for threads in (1, 4)
    )
    np.testing.assert_array_equal(one[0], many[0])
    expected = opened.run(["probabilities"], {"image": dataset.decode(17)[None]})[0][0]
    np.testing.assert_array_equal(many[1][2], expected)


def test_a_written_bundle_can_be_opened(core, tmp_path):
    labels = ["a", "b c", "ü"]
    model = export.assemble(core, SIDE, CLASSES, 1.0)
    card = {"schema": "sevenfold.card/1", "classes": labels, "size": SIDE}
    export.write(tmp_path / "bundle", model, labels, card, "# A card\n")
    bundle = bundles.read_bundle(tmp_path / "bundle")
    assert bundle.classes == tuple(labels)
    session = bundles.open_session(bundle, 1)
    assert session.run(["probabilities"], {"image": noise(9, 9)[None]})[0].shape == (1, 3)
    sums = (tmp_path / "bundle" / "SHA256SUMS").read_text("utf-8").splitlines()
    assert {line.split("  ")[1] for line in sums} == {
        "model.onnx",
        "card.json",
        "labels.txt",
        "README.md",
    }
    for line in sums:
        digest, name = line.split("  ")
        assert hashlib.sha256((tmp_path / "bundle" / name).read_bytes()).hexdigest() == digest
    assert json.loads((tmp_path / "bundle" / "card.json").read_text("utf-8")) == card


def test_a_full_disk_is_explained(tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(ResourceError, match="is full"):
        export.write(tmp_path / "bundle", b"", ["a"], {}, "")


def test_a_jpeg_is_answered_as_its_pixels_are(core, dataset):
    opened = onnxruntime.InferenceSession(export.assemble(core, SIDE, CLASSES, 1.0))
    pixels = np.asarray(Image.open(io.BytesIO(dataset.load(3))).convert("RGB"))
    (expected,) = export.run(opened, dataset, [3], ["probabilities"], 1)
    found = opened.run(["probabilities"], {"image": pixels[None]})[0]
    np.testing.assert_array_equal(found, expected)


def members(count: int) -> list[export.Shipped]:
    """Build networks that share their first block alone."""
    made = []
    for seed in range(count):
        one = network()
        torch.manual_seed(100 + seed)
        with torch.no_grad():
            one.blocks[1][0].weight.normal_(0, 0.3)
            one.head.weight.normal_(0, 3)
            one.head.bias.normal_(0, 0.5)
        made.append(export.Shipped(one, mirror=False).eval())
    return made


@pytest.fixture(scope="module")
def voters() -> tuple[list[export.Shipped], list[onnx.ModelProto]]:
    made = members(3)
    return made, [export.core(one, SIDE) for one in made]


def member_logits(made: list[export.Shipped], batch: np.ndarray) -> np.ndarray:
    opened = session(export.resizing(SIDE).SerializeToString(), 1)
    pixels = torch.from_numpy(opened.run(None, {"image": batch})[0])
    with torch.inference_mode():
        return np.stack([one(pixels)[0].numpy() for one in made]).astype(np.float64)


def ensemble(
    cores: list[onnx.ModelProto],
    weights: np.ndarray,
    vote: str,
    side: int,
    classes: int,
    temperature: float,
) -> bytes:
    return export.assemble(voting(cores, weights, vote), side, classes, temperature)


@pytest.mark.parametrize("vote", ensembling.VOTES)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_vote_in_the_graph_is_the_vote_of_numpy(voters, vote, batch_size):
    made, cores = voters
    batch = np.stack([noise(30, 41, seed) for seed in range(batch_size)])
    temperature = 1.7
    for weights in (np.ones(3), np.array([0.5, 0.0, 0.25])):
        model = ensemble(cores, weights, vote, SIDE, CLASSES, temperature)
        onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
        opened = session(model, 1)
        assert [one.name for one in opened.get_outputs()] == ["probabilities", "logits", "features"]
        probabilities, logits, features = opened.run(None, {"image": batch})
        expected = ensembling.pool(member_logits(made, batch), weights, vote) / temperature
        powers = np.exp(expected)
        np.testing.assert_allclose(
            probabilities, powers / powers.sum(axis=1, keepdims=True), atol=1e-5
        )
        np.testing.assert_allclose(
            torch.softmax(torch.from_numpy(logits), 1), probabilities, atol=1e-6
        )
        np.testing.assert_allclose(logits, expected, atol=2e-3)
        assert features.shape == (batch_size, 8, 6, 6)
        first = made[0].network.features(torch.cat([resized(one) for one in batch]))
        np.testing.assert_allclose(features, first.detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("vote", ensembling.VOTES)
def test_a_vote_of_logits_far_apart_is_finite(voters, vote):
    cores = [tampered(one, change) for one, change in zip(voters[1], (1e3, -1e3), strict=False)]
    batch = noise(30, 41)[None]
    alone = [session(export.assemble(one, SIDE, CLASSES, 1.0), 1) for one in cores]
    logits = np.stack([one.run(["logits"], {"image": batch})[0] for one in alone])
    assert np.ptp(logits, axis=2).min() > 100
    model = ensemble(cores, np.ones(2), vote, SIDE, CLASSES, 1.0)
    probabilities, found, _ = session(model, 1).run(None, {"image": batch})
    assert np.isfinite(found).all()
    expected = np.exp(ensembling.pool(logits, np.ones(2), vote))
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)


def convolutions(model: bytes) -> int:
    return sum(node.op_type == "Conv" for node in onnx.load_from_string(model).graph.node)


def test_a_shared_trunk_is_stored_and_run_once(core, voters):
    one = export.assemble(core, SIDE, CLASSES, 1.0)
    same = [tampered(core, change) for change in (0.1, 0.2, 0.3)]
    shared = ensemble(same, np.ones(3), "soft", SIDE, CLASSES, 1.0)
    apart = ensemble(voters[1], np.ones(3), "soft", SIDE, CLASSES, 1.0)
    assert convolutions(one) == 2
    assert convolutions(shared) == 2
    assert convolutions(apart) == 1 + 3  # the first block is the same
    weights = sum(
        numpy_helper.to_array(weight).nbytes
        for weight in onnx.load_from_string(one).graph.initializer
    )
    found = sum(
        numpy_helper.to_array(weight).nbytes
        for weight in onnx.load_from_string(shared).graph.initializer
    )
    heads = 2 * 8 * CLASSES * 4  # their biases are the same
    assert weights + heads <= found <= weights + heads + 100


def test_members_without_weight_are_not_in_the_file(voters):
    _, cores = voters
    alone = ensemble(cores, np.array([0, 1, 0]), "soft", SIDE, CLASSES, 1.5)
    assert convolutions(alone) == 2
    picture = noise(60, 45)[None]
    expected = session(export.assemble(cores[1], SIDE, CLASSES, 1.5), 1)
    for found, known in zip(
        session(alone, 1).run(None, {"image": picture}),
        expected.run(None, {"image": picture}),
        strict=True,
    ):
        assert found.shape == known.shape
    np.testing.assert_allclose(
        session(alone, 1).run(["probabilities"], {"image": picture})[0],
        expected.run(["probabilities"], {"image": picture})[0],
        atol=1e-6,
    )


def test_the_file_of_all_members_is_reproducible_and_without_traces(voters):
    _, cores = voters
    model, again = (ensemble(cores, np.ones(3), "hard", SIDE, CLASSES, 1.0) for _ in range(2))
    assert model == again
    for trace in (b".py", b"/home", b"site-packages", b"torch", b"forward("):
        assert trace not in model, trace


def test_a_vote_of_mirrored_members_passes_the_gate(dataset):
    made = [export.Shipped(network(), mirror=True).eval() for _ in range(2)]
    with torch.no_grad():
        made[1].network.head.weight.mul_(-2)
    first = export.core(made[0], SIDE)
    cores = [first, tampered(first, -3.0)]
    model = ensemble(cores, np.ones(2), "soft", SIDE, CLASSES, 1.5)
    assert convolutions(model) == 4  # the picture and its mirror image, once for both members
    pictures = range(len(dataset))
    (ours,) = export.run(session(model, 1), dataset, pictures, ["probabilities"], 2)
    logits = np.stack(
        [export.network_logits(one, dataset, pictures, side=SIDE, threads=2) for one in made]
    )
    pooled = torch.from_numpy(ensembling.pool(logits, np.ones(2), "soft"))
    theirs = torch.softmax(pooled / 1.5, dim=1).numpy()
    assert export.parity(ours, theirs).largest_difference < 1e-5


def test_a_network_with_branches_is_not_joined(core):
    branching = onnx.ModelProto()
    branching.CopyFrom(core)
    node = branching.graph.node.add(op_type="If", input=["net_pixels"], output=["unused"])
    node.attribute.append(onnx.helper.make_attribute("then_branch", core.graph))
    with pytest.raises(GateRefused, match="cannot be joined"):
        ensemble([core, branching], np.ones(2), "soft", SIDE, CLASSES, 1.0)


# -- what the last features are held against ---------------------------------------------


def test_a_pool_and_a_linear_head_are_found(plain):
    weight, bias = export.linear_head(plain.network, SIDE)
    assert weight.shape == (CLASSES, 8)
    pixels = resized(noise(50, 40))
    with torch.inference_mode():
        logits, features = plain(pixels)
    expected = features[0].mean(dim=(1, 2)).numpy() @ weight.T + bias
    assert logits[0].numpy() == pytest.approx(expected, abs=1e-4)


def test_another_head_is_not_taken_for_linear():
    class Squared(nn.Module):
        def forward(self, maps: torch.Tensor) -> torch.Tensor:
            return maps.mean(dim=(2, 3)) ** 2

    strange = network()
    strange.pool = nn.Sequential(Squared())
    assert export.linear_head(strange, SIDE)[0].size == 0
    largest = network()
    largest.pool = nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten())
    assert export.linear_head(largest, SIDE)[0].size == 0


@pytest.mark.parametrize("name", ["small", "pruned", "resnet20"])
def test_the_map_is_that_of_grad_cam(name):
    torch.manual_seed(1)
    made = nets.small("resnet20", CLASSES).eval() if name == "resnet20" else network()
    if name == "pruned":
        made.blocks[1][0] = nn.Conv2d(6, 5, 3, 2, 1)
        made.head = nn.Linear(5, CLASSES)
    shipped = export.Shipped(made, mirror=name == "small").eval()
    model = export.assemble(export.core(shipped, SIDE), SIDE, CLASSES, 1.7)
    picture = noise(60, 45, 3)
    opened = session(model, 1)
    (features,) = opened.run(["features"], {"image": picture[None]})
    weight, _ = export.linear_head(made, SIDE)
    for label in range(CLASSES):
        maps_of = made.features(resized(picture)).detach().requires_grad_()
        made.classify(maps_of)[0, label].backward()
        assert maps_of.grad is not None
        channels = maps_of.grad[0].mean(dim=(1, 2))  # Grad-CAM's weights
        cam = torch.relu((channels[:, None, None] * maps_of[0]).sum(dim=0)).detach().numpy()
        found = maps.class_map(features[0], weight[label])
        assert found == pytest.approx(cam, rel=1e-3, abs=1e-5 * max(1.0, float(cam.max())))


def test_the_stored_picture_gets_its_stored_answer(core, tmp_path):
    labels = ["a", "b", "c"]
    model = export.assemble(core, SIDE, CLASSES, 1.0)
    card = {"schema": "sevenfold.card/1", "classes": labels, "size": SIDE}
    more = {"selftest.json": export.selftest(model)}
    export.write(tmp_path, model, labels, card, "", more)
    assert "selftest.json" in (tmp_path / "SHA256SUMS").read_text("utf-8")
    selftest(predict.load(tmp_path))
    stored = json.loads(more["selftest.json"])
    stored["probabilities"] = stored["probabilities"][::-1]
    (tmp_path / "selftest.json").write_text(json.dumps(stored), encoding="utf-8")
    sums = (tmp_path / "SHA256SUMS").read_text("utf-8").splitlines()[:-1]
    digest = hashlib.sha256((tmp_path / "selftest.json").read_bytes()).hexdigest()
    text = "\n".join([*sums, f"{digest}  selftest.json"]) + "\n"
    (tmp_path / "SHA256SUMS").write_bytes(text.encode())
    with pytest.raises(ModelError, match="off on this machine"):
        selftest(predict.load(tmp_path))


def test_what_is_seen_is_what_is_run(core, dataset, plain):
    opened = session(export.assemble(core, SIDE, CLASSES, 1.0), 1)
    shares, vectors = export.seen(opened, dataset, [3, 1], 2)
    expected, maps_of = export.run(opened, dataset, [3, 1], ["probabilities", "features"], 1)
    np.testing.assert_array_equal(shares, expected)
    np.testing.assert_allclose(vectors, maps_of.mean(axis=(2, 3)), rtol=1e-5)
    torch_vectors = export.network_vectors(plain.network, dataset, [3, 1], side=SIDE, threads=1)
    np.testing.assert_allclose(vectors, torch_vectors, rtol=1e-3, atol=1e-4)
