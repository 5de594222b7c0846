"""Pictures that a program holds become a listing like any other."""

import io
import math

import numpy as np
import pytest
from PIL import Image

import photos
from sevenfold import data, image
from sevenfold.errors import DataError, ImageRejected, InputError

RED = photos.picture("red", 1)


def decoded(listing, at=0):
    photo = listing.photos[at]
    return image.decode(listing.source.load(photo), name=photo.path)


def test_what_is_given_comes_back_to_the_pixel(tmp_path):
    file = tmp_path / "red.png"
    Image.fromarray(RED).save(file)
    listing = data.given([RED, Image.fromarray(RED), file, str(file)], ["r"] * 4)
    for at in range(4):
        np.testing.assert_array_equal(decoded(listing, at), RED)
    assert [photo.path for photo in listing.photos] == ["X[0]", "X[1]", str(file), str(file)]
    assert listing.classes == ("r",)


@pytest.mark.parametrize("shape", [(2, 6, 5), (2, 6, 5, 1), (2, 6, 5, 3), (2, 6, 5, 4)])
def test_one_array_holds_many_pictures(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    if shape[-1] == 4:
        pixels[..., 3] = 255
    grey = len(shape) == 3 or shape[-1] == 1
    expected = np.broadcast_to(pixels.reshape(2, 6, 5, -1)[1][..., :3], (6, 5, 3))
    listing = data.given(pixels)
    assert len(listing.photos) == 2
    np.testing.assert_array_equal(decoded(listing, 1), expected)
    assert (np.ptp(decoded(listing, 1), axis=2) == 0).all() == grey


def test_an_open_picture_is_turned_and_deepened_as_its_file_is():
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.fromarray(RED).save(file, "PNG", exif=exif)
    opened = Image.open(io.BytesIO(file.getvalue()))
    expected = image.decode(file.getvalue(), name="file")
    np.testing.assert_array_equal(decoded(data.given([opened])), expected)
    deep = Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000)
    assert decoded(data.given([deep])).max() == round(63000 / 257)


def test_a_file_that_pillow_reads_too_late_is_one_rejected_picture(tmp_path):
    file = tmp_path / "cut.png"
    Image.fromarray(RED).save(file)
    file.write_bytes(file.read_bytes()[:600])
    listing = data.given([Image.open(file)])
    with pytest.raises(ImageRejected, match=r"X\[0\]: damaged or closed"):
        listing.source.load(listing.photos[0])


def test_groups_and_labels_go_to_their_pictures():
    listing = data.given([RED, RED], [3, 4], groups=["p", "q"])
    assert [(p.label, p.group) for p in listing.photos] == [("3", "p"), ("4", "q")]
    with pytest.raises(InputError, match="2 pictures and 1 groups"):
        data.given([RED, RED], groups=["p"])


class Missing:
    """Answer comparisons as pandas' NA does."""

    def __ne__(self, other):
        return self

    def __bool__(self):
        raise TypeError("boolean value of NA is ambiguous")


def test_pictures_whose_group_is_missing_stand_alone():
    groups = [None, math.nan, np.float32("nan"), np.datetime64("NaT"), Missing(), "", "p", 3]
    listing = data.given([RED] * 8, groups=groups)
    assert [photo.group for photo in listing.photos] == [""] * 6 + ["p", "3"]


def test_what_is_refused_is_a_value_error_and_ours():
    with pytest.raises(ValueError, match="not of a list") as refused:
        data.given(7)
    assert isinstance(refused.value, DataError)


def test_val_is_taken_from_few_pictures_if_asked():
    pictures = [photos.picture(label, at, 16) for label in ("blue", "red") for at in range(20)]
    listing = data.given(pictures, ["blue"] * 20 + ["red"] * 20)
    dataset = data.assemble(listing, data.fingerprint_all(listing, threads=1))
    assert len(data.split(dataset, test=0.0).val) == 0
    split = data.split(dataset, val=0.25, test=0.0, fewest=0)
    assert (len(split.train), len(split.val), len(split.test)) == (30, 10, 0)
