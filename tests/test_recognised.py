"""Fingerprints of pictures that a training has seen are read, not made again."""

import pytest

from photos import write
from sevenfold import data, image
from sevenfold.features import pixels, store
from sevenfold.progress import silent


@pytest.fixture
def listing(tmp_path, monkeypatch):
    monkeypatch.setenv("SEVENFOLD_CACHE", str(tmp_path / "stores"))
    folder = write(tmp_path / "photos", {"blue": 6, "red": 5}, side=20)
    (folder / "red" / "torn.jpg").write_bytes(b"\xff\xd8\xff")
    return data.scan(str(folder))


def recognised(listing):
    return [
        one if isinstance(one, image.Fingerprint) else str(one)
        for one in pixels.recognised(listing, threads=2, progress=silent)
    ]


def test_what_a_training_has_seen_is_not_decoded_again(listing, monkeypatch):
    wanted = recognised(listing)
    assert len({str(one) for one in wanted}) == 12
    held = pixels.for_training(16)
    pixels.ingest(listing, pixels=held, threads=1, progress=silent)
    real, seen = image.fingerprint, []

    def watched(data, *, name, **how):
        seen.append(name)
        return real(data, name=name, **how)

    monkeypatch.setattr(image, "fingerprint", watched)
    assert recognised(listing) == wanted
    assert seen == ["red/torn.jpg"]


def test_new_pictures_are_decoded_and_nothing_is_written(listing, tmp_path):
    pixels.ingest(listing, pixels=pixels.for_training(16), threads=1, progress=silent)
    write(tmp_path / "photos", {"green": 3}, side=20)
    more = data.scan(str(tmp_path / "photos"))
    folder = tmp_path / "stores" / "fingerprints"
    before = {path: path.stat().st_size for path in folder.rglob("*.rows")}
    found = recognised(more)
    assert len(found) == 15
    assert found == [
        one if isinstance(one, image.Fingerprint) else str(one)
        for one in data.fingerprint_all(more)
    ]
    assert {path: path.stat().st_size for path in folder.rglob("*.rows")} == before


def test_without_stores_everything_is_decoded(listing, tmp_path, monkeypatch):
    assert len(recognised(listing)) == 12
    assert not (tmp_path / "stores").exists()

    def homeless():
        raise store.ResourceError("no home", "name one")

    monkeypatch.setattr(pixels, "home", homeless)
    assert len(recognised(listing)) == 12
