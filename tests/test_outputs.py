"""What the page's graph says without numpy is what `predict` says."""

import json
import re
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from bundles import colour, knowing, tiny_bundle
from sevenfold import maps, predict, unknown
from sevenfold.bundles import read_bundle
from sevenfold.errors import GateRefused
from sevenfold.exports import html, outputs, verify
from sevenfold.features.trunk import session

CLASSES = ("one", "two", "three")
SIDE = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("outputs")
    return knowing(tiny_bundle(place / "bundle", CLASSES, size=SIDE), {"two": 0.9})


def squares() -> list[np.ndarray]:
    """Draw flat, coloured and noisy pictures of the graph's own size."""
    random = np.random.default_rng(0)
    shades = [np.full((SIDE, SIDE, 3), shade, np.uint8) for shade in (0, 90, 128, 255)]
    colours = [np.full((SIDE, SIDE, 3), colour(k, 3), np.uint8) for k in range(3)]
    noise = [random.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8) for _ in range(4)]
    return shades + colours + noise


@pytest.mark.parametrize("score", unknown.SCORES)
def test_the_graph_marks_what_predict_marks(folder, score):
    bundle = read_bundle(folder)
    predictor = predict.load(folder, threads=1)
    known = [predictor.see(pixels).features for pixels in squares()]
    large = 60 * bundle.detector.weight  # whose logits no exponential in float32 holds
    detector = replace(bundle.detector, score=score, weight=large)
    vectors = np.stack([unknown.pooled(features) for features in known])
    wanted = unknown.distances(detector, vectors)
    graph = session(outputs.extended(replace(bundle, detector=detector)), 1)
    found = [graph.run(["distance"], {"image": pixels[None]})[0] for pixels in squares()]
    np.testing.assert_allclose(np.concatenate(found), wanted, rtol=1e-5, atol=1e-5)
    assert np.ptp(wanted) > 0.1


def test_a_class_without_a_mean_is_near_nothing(folder):
    bundle = read_bundle(folder)
    centroids = bundle.detector.centroids.copy()
    centroids[1] = 0
    detector = replace(bundle.detector, centroids=centroids)
    graph = session(outputs.extended(replace(bundle, detector=detector)), 1)
    for pixels in squares():
        distance, features = graph.run(["distance", "features"], {"image": pixels[None]})
        vector = unknown.pooled(features[0])[None]
        assert distance == pytest.approx(unknown.distances(detector, vector), abs=1e-5)


@pytest.mark.parametrize("shape", [(5, 3), (3,)])
def test_tokens_and_vectors_have_a_distance_and_no_map(folder, shape):
    bundle = read_bundle(folder)
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Identity", ["image"], ["features"])],
            "features alone",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", *shape])],
            [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", *shape])],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    whole = outputs.extended(replace(bundle, model=model.SerializeToString()))
    assert outputs.names(whole) == ("features", "distance")
    features = np.random.default_rng(1).random((2, *shape), dtype=np.float32)
    (found,) = session(whole, 1).run(["distance"], {"image": features})
    vectors = np.stack([unknown.pooled(one) for one in features])
    np.testing.assert_allclose(found, unknown.distances(bundle.detector, vectors), atol=1e-5)


def test_the_graph_shows_the_evidence_that_predict_shows(folder):
    bundle = read_bundle(folder)
    graph = session(outputs.extended(bundle), 1)
    for pixels in squares():
        evidence, features = graph.run(["evidence", "features"], {"image": pixels[None]})
        assert evidence.shape == (1, 3, SIDE, SIDE)
        for k in range(3):
            wanted = maps.class_map(features[0], bundle.detector.weight[k])
            np.testing.assert_allclose(evidence[0, k], wanted, atol=1e-6)


def test_a_vote_and_an_unknown_head_have_no_maps_and_no_detector_no_distance(folder):
    bundle = read_bundle(folder)
    vote = replace(bundle, card={**bundle.card, "ships": "vote"})
    assert "evidence" not in outputs.names(outputs.extended(vote))
    bare = replace(bundle, detector=unknown.EMPTY)
    assert outputs.names(outputs.extended(bare)) == ("probabilities", "logits", "features")


def test_the_page_asks_its_graph_for_what_it_shows_and_knows_the_threshold(folder):
    bundle = read_bundle(folder)
    whole = outputs.extended(bundle)
    text = html.page(bundle, html.halved(whole))
    facts = json.loads(re.search(r'id="facts">(.*?)</script>', text, re.S)[1])
    assert facts["outputs"] == ["probabilities", "distance", "evidence"]
    assert facts["farthest"] == bundle.detector.threshold
    assert "It marks what is unlike" in text
    assert "<em>not sure</em>" in text
    plain = replace(bundle, detector=unknown.EMPTY)
    text = html.page(plain, html.halved(outputs.extended(plain)))
    facts = json.loads(re.search(r'id="facts">(.*?)</script>', text, re.S)[1])
    assert (facts["outputs"], facts["farthest"]) == (["probabilities"], None)
    assert "It marks what is unlike" not in text


def test_half_precision_keeps_the_marks(folder):
    bundle = read_bundle(folder)
    whole = outputs.extended(bundle)
    narrow = html.halved(whole)
    assert onnx.load_from_string(narrow).graph.output == onnx.load_from_string(whole).graph.output
    ours, theirs = (
        np.concatenate([opened.run(["distance"], {"image": one[None]})[0] for one in squares()])
        for opened in (session(narrow, 1), session(whole, 1))
    )
    found = verify.marks(ours, theirs, bundle.detector.threshold)
    assert (found.same, found.apart) == (1.0, 0)
    verify.demand_marks(found, what="the page's model")


def test_a_mark_may_differ_at_the_threshold_alone():
    theirs = np.array([0.1, 0.2, 0.499, 0.9])
    near = verify.marks(np.array([0.1, 0.2, 0.501, 0.9]), theirs, 0.5)
    assert (near.same, near.apart) == (0.75, 0)
    verify.demand_marks(near, what="it")
    far = verify.marks(np.array([0.1, 0.6, 0.499, 0.9]), theirs, 0.5)
    assert (far.same, far.apart) == (0.75, 1)
    with pytest.raises(GateRefused, match="it marks 1 pictures otherwise"):
        verify.demand_marks(far, what="it")
