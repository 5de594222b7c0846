import io
import os
import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageFile

from sevenfold import image
from sevenfold.errors import ImageRejected

# Running tests, pytest undoes the filters that the module sets.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
]
NOISE = np.random.default_rng(7).integers(0, 256, (24, 40, 3), dtype=np.uint8)
LOSSLESS = {"PNG": {}, "BMP": {}, "TIFF": {}, "WEBP": {"lossless": True}}


def encoded(pixels, form="PNG", **options):
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def png_header(width, height):
    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    rows = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + header + rows + chunk(b"IEND", b"")


def upright(pixels, orientation):
    """Undo an EXIF orientation by its definition: where row 0 and column 0 are."""
    turned = pixels.transpose(1, 0, 2) if orientation >= 5 else pixels
    flip_rows = orientation in {3, 4, 7, 8}
    flip_columns = orientation in {2, 3, 6, 7}
    turned = turned[::-1] if flip_rows else turned
    return turned[:, ::-1] if flip_columns else turned


@pytest.mark.parametrize("form", LOSSLESS)
def test_lossless_formats_keep_every_pixel(form):
    decoded = image.decode(encoded(NOISE, form, **LOSSLESS[form]), name="wrong.suffix")
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, NOISE)


@pytest.mark.parametrize("form", ["JPEG", "GIF"])
def test_lossy_formats_are_let_through(form):
    assert image.decode(encoded(NOISE, form), name="a").shape == NOISE.shape


@pytest.mark.parametrize("form", ["PPM", "ICO", "PCX", "TGA", "EPS", "PDF"])
def test_other_formats_are_refused_though_pillow_reads_or_writes_them(form):
    with pytest.raises(ImageRejected, match="not a readable JPEG") as caught:
        image.decode(encoded(NOISE, form), name="a.jpg")
    assert caught.value.exit_code == 3
    assert caught.value.problem.startswith("a.jpg: ")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied(form, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(NOISE, form, exif=exif, **LOSSLESS[form])
    found, pixels = image.fingerprint(data, name="a")
    np.testing.assert_array_equal(pixels, upright(NOISE, orientation))
    assert (found.height, found.width) == pixels.shape[:2]


def test_exif_orientation_of_a_jpeg_drafted_at_a_smaller_scale():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(np.zeros((1100, 2300, 3), np.uint8), "JPEG", exif=exif)
    found, pixels = image.fingerprint(data, name="a")
    assert (found.width, found.height) == (1100, 2300)
    assert pixels.shape == (1150, 550, 3)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0garbage", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0"]
)
def test_damaged_metadata_do_not_cost_the_picture(exif):
    assert image.decode(encoded(NOISE, "JPEG", exif=exif), name="a").shape == NOISE.shape


def test_orientation_out_of_range_is_ignored():
    exif = Image.Exif()
    exif[0x0112] = 77
    decoded = image.decode(encoded(NOISE, "PNG", exif=exif), name="a")
    np.testing.assert_array_equal(decoded, NOISE)


def test_grey_becomes_three_equal_channels():
    grey = NOISE[..., 0]
    np.testing.assert_array_equal(
        image.decode(encoded(grey), name="a"), np.repeat(grey[..., None], 3, axis=2)
    )


def test_one_bit_becomes_black_and_white():
    bits = Image.fromarray(NOISE[..., 0]).convert("1")
    assert set(np.unique(image.decode(encoded(bits), name="a"))) == {0, 255}


def test_palette_is_looked_up():
    picture = Image.fromarray(NOISE).quantize(16)
    np.testing.assert_array_equal(
        image.decode(encoded(picture), name="a"), np.asarray(picture.convert("RGB"))
    )


@pytest.mark.parametrize("form", ["PNG", "GIF"])
def test_a_transparent_palette_entry_becomes_white(form):
    picture = Image.new("P", (4, 4), 1)
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.putpixel((0, 0), 0)
    decoded = image.decode(encoded(picture, form, transparency=1), name="a")
    assert decoded[0, 0].tolist() == [255, 0, 0]
    assert decoded[3, 3].tolist() == [255, 255, 255]


def test_a_transparent_colour_becomes_white():
    picture = Image.new("RGB", (2, 1), (10, 20, 30))
    picture.putpixel((1, 0), (1, 2, 3))
    decoded = image.decode(encoded(picture, transparency=(10, 20, 30)), name="a")
    assert decoded[0].tolist() == [[255, 255, 255], [1, 2, 3]]


@pytest.mark.parametrize(("kind", "top"), [(np.uint16, 65535), (np.int32, 60000), (np.float32, 1)])
def test_deep_grey_is_the_same_in_strips(kind, top, monkeypatch):
    values = np.random.default_rng(0).uniform(0, top, (37, 11)).astype(kind)
    if kind is np.float32:
        values[3, 4], values[20, 2] = np.nan, np.inf
    picture = encoded(Image.fromarray(values), "TIFF")
    whole = image.decode(picture, name="a")
    monkeypatch.setattr(image, "_STRIP_PIXELS", 40)
    assert (image.decode(picture, name="a") == whole).all()
    assert len(np.unique(whole)) > 50


@pytest.mark.parametrize(("mode", "colour"), [("RGBA", (0, 0, 0, 128)), ("LA", (0, 128))])
def test_alpha_is_composited_on_white(mode, colour):
    decoded = image.decode(encoded(Image.new(mode, (3, 3), colour)), name="a")
    assert decoded[1, 1].tolist() == [127, 127, 127]


@pytest.mark.parametrize("form", ["JPEG", "TIFF"])
def test_cmyk_becomes_rgb(form):
    picture = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    red, green, blue = image.decode(encoded(picture, form), name="a")[8, 8].tolist()
    assert red < 10
    assert green > 245
    assert blue > 245


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(form):
    values = np.array([[0, 257, 128 * 257, 65535]], dtype=np.uint16)
    decoded = image.decode(encoded(values, form), name="a")
    assert decoded[0, :, 0].tolist() == [0, 1, 128, 255]


def test_sixteen_bits_of_each_colour_are_scaled():
    values = np.array([[[0, 257, 65535], [128 * 257, 65535, 0]]], dtype=np.uint16)
    png = cv2.imencode(".png", values[:, :, ::-1])[1].tobytes()
    assert image.decode(png, name="a").tolist() == [[[0, 1, 255], [128, 255, 0]]]


def test_thirty_two_bits_that_hold_sixteen_are_scaled_as_sixteen():
    values = np.array([[0, 257, 65535]], dtype=np.int32)
    assert image.decode(encoded(values, "TIFF"), name="a")[0, :, 0].tolist() == [0, 1, 255]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 100.0, 200.0], [0, 100, 200]),
        ([0.0, 257.0, 65535.0], [0, 1, 255]),
        ([0.0, 5e5, 1e6], [0, 128, 255]),
        ([float("nan"), -1.0, 1.0], [0, 0, 255]),
        ([float("nan"), float("inf"), float("-inf")], [0, 0, 0]),
    ],
)
def test_floats_are_scaled_by_the_smallest_fitting_white(values, expected):
    data = encoded(np.array([values], dtype=np.float32), "TIFF")
    assert image.decode(data, name="a")[0, :, 0].tolist() == expected


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP"])
def test_of_an_animation_the_first_frame_is_taken(form):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], form, save_all=True, append_images=frames[1:], duration=50)
    red, _, blue = image.decode(data, name="a")[4, 4].tolist()
    assert red > 240
    assert blue < 15


@pytest.mark.parametrize("form", image.FORMATS)
@pytest.mark.parametrize("share", [0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98])
def test_a_truncated_file_is_rejected(form, share):
    data = encoded(NOISE, form)
    with pytest.raises(ImageRejected, match=r"^cut\.jpg: "):
        image.decode(data[: int(len(data) * share)], name="cut.jpg")


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
def test_a_truncated_progressive_jpeg_is_rejected_at_any_scale(share):
    large = np.random.default_rng(0).integers(0, 256, (700, 700, 3), dtype=np.uint8)
    data = encoded(large, "JPEG", progressive=True)
    for draft_side in (0, 64):
        with pytest.raises(ImageRejected):
            image.decode(data[: int(len(data) * share)], name="a", draft_side=draft_side)


def test_nothing_here_makes_pillow_tolerate_truncated_files():
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


@pytest.mark.parametrize("data", [b"", b"\0", b"\xff\xd8\xff", b"not a picture", bytes(5000)])
def test_bytes_that_are_no_picture_are_rejected(data):
    with pytest.raises(ImageRejected):
        image.decode(data, name="a")


def test_random_damage_is_rejected_or_survived_but_never_another_error():
    generator = np.random.default_rng(3)
    rejected = 0
    for form in image.FORMATS:
        whole = encoded(NOISE, form)
        for _ in range(60):
            data = bytearray(whole)
            for place in generator.integers(0, len(data), 8):
                data[place] = generator.integers(0, 256)
            try:
                assert image.decode(bytes(data), name="a").shape[2] == 3
            except ImageRejected:
                rejected += 1
    assert rejected > 10


@pytest.mark.parametrize(
    ("width", "height", "named"),
    [
        (13_000, 13_000, "more than 50000000"),
        (60_000, 60_000, "more than 50000000"),
        (8000, 7000, "8000 x 7000 pixels, more than 50000000"),
        (2**31 - 1, 1, "more than 50000000"),
    ],
)
def test_a_bomb_is_refused_by_its_header(width, height, named, monkeypatch):
    def decoded(self):
        raise AssertionError("it was decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", decoded)
    with pytest.raises(ImageRejected, match=named) as caught:
        image.decode(png_header(width, height), name="bomb.png")
    assert "it was decoded" not in str(caught.value)


@pytest.mark.parametrize("kind", ["DecompressionBombWarning", "UserWarning"])
def test_what_pillow_warns_of_is_not_shown_unless_the_host_says_otherwise(kind):
    def warned(before):
        code = (
            "import warnings\n"
            "from PIL.Image import DecompressionBombWarning\n"
            f"{before}\n"
            "import sevenfold.image\n"
            f"warnings.warn_explicit('large', {kind}, 'Image.py', 1, module='PIL.Image')"
        )
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert warned("").stderr == ""
    host = f"warnings.filterwarnings('error', category={kind})"
    assert f"{kind}: large" in warned(host).stderr


def test_a_file_is_read_unless_it_is_none(tmp_path, monkeypatch):
    file = tmp_path / "a.png"
    file.write_bytes(encoded(NOISE))
    assert image.read(str(file), name="a") == image.read(file, name="a") == encoded(NOISE)
    monkeypatch.setattr(image, "LARGEST_FILE", file.stat().st_size - 1)
    wrong = {"folder": tmp_path, "large": file, "none": tmp_path / "none", "null": "a\0b"}
    if hasattr(os, "mkfifo"):
        wrong["pipe"] = tmp_path / "pipe"
        os.mkfifo(wrong["pipe"])
    for name, path in wrong.items():
        with pytest.raises(ImageRejected, match=f"^{name}: (no such file|the file is larger than)"):
            image.read(path, name=name)


def test_the_cap_is_an_argument():
    data = encoded(NOISE)
    assert image.decode(data, name="a", max_pixels=24 * 40).shape == (24, 40, 3)
    with pytest.raises(ImageRejected, match="40 x 24 pixels, more than 959"):
        image.decode(data, name="a", max_pixels=24 * 40 - 1)


@pytest.mark.parametrize(
    ("size", "draft_side", "expected"),
    [
        ((1200, 1600), 0, (1600, 1200)),
        ((1200, 1600), 512, (800, 600)),
        ((1200, 1600), 600, (800, 600)),
        ((1200, 1600), 601, (1600, 1200)),
        ((1200, 1600), 150, (200, 150)),
        ((1200, 1600), 20, (200, 150)),
        ((300, 4000), 512, (4000, 300)),
    ],
)
def test_a_draft_is_the_smallest_scale_that_is_large_enough(size, draft_side, expected):
    data = encoded(Image.new("RGB", size, "green"), "JPEG")
    assert image.decode(data, name="a", draft_side=draft_side).shape[:2] == expected


def test_a_fingerprint_is_of_the_pixels_not_of_the_file():
    found = {
        image.fingerprint(encoded(NOISE, form, **options), name=form)[0].hash
        for form, options in LOSSLESS.items()
    }
    assert len(found) == 1
    assert len(found.pop()) == 32


def test_a_rotated_copy_that_says_so_has_the_same_fingerprint():
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded(np.ascontiguousarray(np.rot90(NOISE)), exif=exif)
    assert image.fingerprint(turned, name="a")[0] == image.fingerprint(encoded(NOISE), name="b")[0]


def test_a_fingerprint_tells_sizes_boxes_and_single_pixels_apart():
    other = NOISE.copy()
    other[5, 5, 1] ^= 1
    half = (0.0, 0.0, 0.5, 0.5)
    blank = np.zeros((10, 20, 3), np.uint8)
    hashes = [
        image.fingerprint(encoded(NOISE), name="a")[0].hash,
        image.fingerprint(encoded(other), name="a")[0].hash,
        image.fingerprint(encoded(NOISE), name="a", box=half)[0].hash,
        image.fingerprint(encoded(blank), name="a")[0].hash,
        image.fingerprint(encoded(blank.transpose(1, 0, 2).copy()), name="a")[0].hash,
        image.fingerprint(encoded(blank[:5]), name="a")[0].hash,
        image.fingerprint(encoded(blank), name="a", box=(0.0, 0.0, 1.0, 0.5))[0].hash,
    ]
    assert len(set(hashes)) == len(hashes)


def test_a_large_jpeg_has_its_true_size_and_is_told_from_a_smaller_one():
    large, small = (
        image.fingerprint(encoded(Image.new("RGB", size, "red"), "JPEG"), name="a")
        for size in ((2048, 2048), (1024, 1024))
    )
    assert large[1].shape == small[1].shape == (512, 512, 3)
    assert (large[0].width, small[0].width) == (2048, 1024)
    assert large[0].hash != small[0].hash


def test_a_small_box_is_decoded_at_a_larger_scale():
    data = encoded(Image.new("RGB", (2048, 2048), "red"), "JPEG")
    _, pixels = image.fingerprint(data, name="a", box=(0.25, 0.25, 0.5, 0.5))
    assert pixels.shape == (512, 512, 3)


def test_crop_rounds_to_pixels_and_keeps_at_least_one():
    np.testing.assert_array_equal(image.crop(NOISE, (0.25, 0.5, 0.5, 0.25)), NOISE[12:18, 10:30])
    np.testing.assert_array_equal(image.crop(NOISE, image.WHOLE), NOISE)
    assert image.crop(NOISE, (0.999, 0.999, 0.0001, 0.0001)).shape == (1, 1, 3)


def test_resize_is_pillows_bilinear_of_the_whole_picture():
    expected = np.asarray(Image.fromarray(NOISE).resize((9, 9), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(image.resize(NOISE, 9), expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain é 猫.jpg", "plain é 猫.jpg"),
        ("a\nb\x1b[31m", r"a\nb\x1b[31m"),
        ("\udce9.jpg", r"\xe9.jpg"),
        ("a\u202egpj.exe", r"a\u202egpj.exe"),
    ],
)
def test_shown_escapes_what_a_screen_cannot_show(text, expected):
    assert image.shown(text) == expected
    assert image.shown(text).encode()


def test_messages_escape_the_name():
    with pytest.raises(ImageRejected, match=r"^a\\nb\.jpg: the file is empty\n"):
        image.decode(b"", name="a\nb.jpg")
