"""What a run knows of its pictures, and what a model made of it keeps of the run's record."""

import numpy as np
import pytest

from sevenfold import account, data, runs
from sevenfold.data import Fingerprint, Listing, Manifest, Photo, Row
from sevenfold.errors import ModelError


def row(path: str, content: str, role: str) -> Row:
    return Row(path, content, path.split("/")[0], role, "", data.WHOLE)


def test_a_copy_that_was_left_out_does_not_come_back():
    contents = {"a/1.png": "11", "a/2.png": "22", "a/copy.png": "11", "b/3.png": "33",
                "b/again.png": "33"}  # fmt: skip
    manifest = Manifest(
        "photos",
        ("a", "b"),
        (row("a/1.png", "11", "test"), row("a/2.png", "22", "train"),
         row("b/3.png", "33", "train"), row("b/again.png", "33", "train")),
    )  # fmt: skip
    order = ("a/copy.png", "a/1.png", "a/2.png", "b/again.png", "b/3.png")
    listing = Listing(
        "photos",
        tuple(Photo(path, path.split("/")[0]) for path in order),
        data.FolderSource("photos", "photos"),
    )
    prints = [Fingerprint(contents[path], 8, 8) for path in order]
    found = runs._known(listing, prints, manifest)
    # Copies within one role stay, since they were trained on as such.
    assert [photo.path for photo in found.photos] == [
        "a/1.png", "a/2.png", "b/again.png", "b/3.png",
    ]  # fmt: skip
    moved = [Fingerprint(contents[path], 8, 8) for path in order[:3]]
    renamed = Listing(
        "photos", tuple(Photo(f"a/x{at}.png", "a") for at in range(3)), listing.source
    )
    assert len(runs._known(renamed, moved, manifest)) == 2


def test_a_record_that_is_no_text_is_a_damaged_file(tmp_path):
    (tmp_path / "data.json").write_bytes(b"\xff{}")
    with pytest.raises(ModelError, match="damaged"):
        data.known(tmp_path)


def test_what_a_training_found_out_stays_on_record():
    tried = [{"method": "none"}, {"method": "class_weights"}]
    check = {"flagged": [], "operations": ["flip"]}
    before = {
        "training": {"probe": [{"rate": 0.1}], "rate": 0.1},
        "imbalance": {"method": "class_weights", "tried": tried, "price": {"rare": 0.1}},
        "classwise": {"label_check": check, "rare": ["a"], "rare_views": [{"factor": 2}]},
    }
    made = {
        "training": {"probe": [], "rate": 0.05},
        "imbalance": {"method": "class_weights", "tried": []},
        "classwise": {"label_check": {"operations": []}, "rare": ["a"], "rare_views": []},
        "title": "photos",
    }
    found = account.carried(made, before)
    assert found["training"] == {"probe": [{"rate": 0.1}], "rate": 0.05}
    assert found["imbalance"] == before["imbalance"]
    assert found["classwise"] == before["classwise"]
    assert account.carried(made, {}) == made
    own = made | {"imbalance": {"method": "none", "tried": tried[:1]}}
    assert account.carried(own, before)["imbalance"] == own["imbalance"]


def test_rows_are_asked_for_a_few_pictures_at_a_time():
    from sevenfold.features import views

    class Counted:
        count, asked = 1, []

        def get(self, pictures, turns):
            self.asked.append(len(pictures))
            assert not turns.any()
            return pictures[:, None].astype(np.float32)

    rows = views.plain_rows(Counted(), np.arange(600))
    assert rows[:, 0].tolist() == list(range(600))
    assert max(Counted.asked) <= 256
