import contextlib
import dataclasses
import errno
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import photos
from sevenfold import data, image, nets
from sevenfold.errors import ImageRejected, ResourceError, UsageError
from sevenfold.features import lease
from sevenfold.features import store as stores
from sevenfold.features import trunk as engines
from sevenfold.features.pixels import Pixels, ingest
from sevenfold.features.store import Store, caches, clear, key, make_room
from sevenfold.features.views import PLAIN, LiveViews, StoredViews, activations, pixel_views
from sevenfold.practices.augmentation import Augmentation, viewer
from sevenfold.progress import silent

SHAPE = (3, 2)
RECORD = stores.KEY_BYTES + 4
NAMES = [key(f"{number:032x}", number) for number in range(1, 9)]
ROWS = np.arange(8 * 6, dtype=np.float16).reshape(8, *SHAPE)


def opened(folder: Path) -> Store:
    return Store(folder, SHAPE, "float16", {"what": "test"})


def filled(folder: Path, rows: int = 8) -> Path:
    store = opened(folder)
    store.append(NAMES[:rows], ROWS[:rows])
    store.close()
    return folder


def read(store: Store, names: list[bytes]) -> np.ndarray:
    return store.gather(store.places(names))


# The store


def test_rows_come_back_by_their_keys(tmp_path):
    store = opened(tmp_path / "a")
    store.append(NAMES[:3], ROWS[:3])
    np.testing.assert_array_equal(read(store, [NAMES[2], NAMES[0]]), ROWS[[2, 0]])
    store.append(NAMES[3:5], ROWS[3:5])  # the segment grows while it is mapped
    np.testing.assert_array_equal(read(store, NAMES[:5][::-1]), ROWS[:5][::-1])
    store.close()
    again = opened(tmp_path / "a")
    assert len(again) == 5
    assert NAMES[4] in again
    assert NAMES[5] not in again
    np.testing.assert_array_equal(read(again, NAMES[:5]), ROWS[:5])


def test_nothing_is_written_until_there_is_a_row(tmp_path):
    store = opened(tmp_path / "a")
    store.append([], ROWS[:0])
    store.close()
    assert not (tmp_path / "a").exists()


def test_the_first_row_of_a_key_is_kept(tmp_path):
    folder = filled(tmp_path / "a", 2)
    store = opened(folder)
    store.append(NAMES[:3], ROWS[5:8])
    np.testing.assert_array_equal(read(store, NAMES[:3]), ROWS[[0, 1, 7]])
    store.close()
    assert len(opened(folder)) == 3
    np.testing.assert_array_equal(read(opened(folder), NAMES[:3]), ROWS[[0, 1, 7]])


def test_a_record_torn_at_any_byte_is_as_if_not_written(tmp_path):
    for torn in range(RECORD):
        folder = filled(tmp_path / f"{torn}", 3)
        (records,) = folder.glob("*.keys")
        records.write_bytes(records.read_bytes()[: 2 * RECORD + torn])
        store = opened(folder)
        assert len(store) == 2
        assert NAMES[2] not in store
        store.append(NAMES[2:4], ROWS[2:4])
        store.close()
        again = opened(folder)
        assert len(again) == 4
        np.testing.assert_array_equal(read(again, NAMES[:4]), ROWS[:4])


def test_a_row_torn_at_any_byte_is_as_if_not_written(tmp_path):
    for torn in range(ROWS[0].nbytes):
        folder = filled(tmp_path / f"{torn}", 3)
        (rows,) = folder.glob("*.rows")
        rows.write_bytes(rows.read_bytes()[: 2 * ROWS[0].nbytes + torn])
        assert len(opened(folder)) == 2
        np.testing.assert_array_equal(read(opened(folder), NAMES[:2]), ROWS[:2])


@pytest.mark.parametrize("missing", ["*.rows", "*.keys"])
def test_a_missing_half_is_an_empty_segment(tmp_path, missing):
    folder = filled(tmp_path / "a", 3)
    next(folder.glob(missing)).unlink()
    assert len(opened(folder)) == 0


def test_a_damaged_row_is_never_handed_out(tmp_path):
    folder = filled(tmp_path / "a")
    (rows,) = folder.glob("*.rows")
    content = bytearray(rows.read_bytes())
    content[3 * ROWS[0].nbytes + 1] ^= 1
    rows.write_bytes(content)
    store = opened(folder)
    np.testing.assert_array_equal(read(store, NAMES[:3]), ROWS[:3])
    for _ in range(2):
        with pytest.raises(ResourceError, match="is damaged") as caught:
            read(store, NAMES)
        assert "cache --clear" in caught.value.cure


@pytest.mark.parametrize("mapped", [0, 64_000_000])
def test_each_row_is_checked_once(tmp_path, monkeypatch, mapped):
    monkeypatch.setattr(stores, "_MAPPED", mapped)
    store = opened(filled(tmp_path / "a"))
    checked: list[bytes] = []
    real = stores.zlib.crc32
    monkeypatch.setattr(stores.zlib, "crc32", lambda row: checked.append(bytes(row)) or real(row))
    for _ in range(3):
        read(store, NAMES)
    assert sorted(checked) == sorted(row.tobytes() for row in ROWS)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells what of a file is in memory")
def test_what_was_read_does_not_stay_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "_MAPPED", 3_000_000)
    store = Store(tmp_path / "a", (1_000_000,), "uint8", {})
    names = [key(f"{number:032x}") for number in range(16)]
    store.append(names, np.repeat(np.arange(16, dtype=np.uint8)[:, None], 1_000_000, axis=1))
    store.close()
    held = []
    for number in range(16):
        assert (read(store, names[number : number + 1]) == number).all()
        held.append(_resident_bytes(tmp_path))
    assert 0 < max(held) < 6_000_000


def _resident_bytes(folder: Path) -> int:
    """Return how much of the files below a folder this process has in memory."""
    mine, found = False, 0
    for line in Path("/proc/self/smaps").read_text("utf-8").splitlines():
        first, *rest = line.split()
        if not first.endswith(":"):
            mine = str(folder) in line
        elif mine and first == "Rss:":
            found += 1024 * int(rest[0])
    return found


def test_a_store_that_was_deleted_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "_MAPPED", 0)
    store = opened(filled(tmp_path / "a"))
    read(store, NAMES)
    shutil.rmtree(tmp_path / "a")
    with pytest.raises(ResourceError, match="was deleted while it was in use"):
        read(store, NAMES)


def test_two_writers_share_a_folder(tmp_path):
    one, other = opened(tmp_path / "a"), opened(tmp_path / "a")
    for at in range(0, 8, 2):
        one.append([NAMES[at]], ROWS[at : at + 1])
        other.append([NAMES[at + 1]], ROWS[at + 1 : at + 2])
    other.append([NAMES[0]], ROWS[7:8])  # it does not see the other's rows; both are kept
    one.close()
    other.close()
    both = opened(tmp_path / "a")
    assert len(both) == 8
    np.testing.assert_array_equal(read(both, NAMES[1:]), ROWS[1:])
    assert read(both, NAMES[:1]).tolist() in (ROWS[:1].tolist(), ROWS[7:8].tolist())


def test_threads_read_while_rows_are_appended(tmp_path):
    store = Store(tmp_path / "a", (4,), "int64", {})
    names = [key(f"{number:032x}") for number in range(3000)]
    failed: list[BaseException] = []
    done = threading.Event()

    def reader(seed: int) -> None:
        draw = np.random.default_rng(seed)
        try:
            while not done.is_set():
                there = len(store)
                if there:
                    number = int(draw.integers(there))
                    assert names[number] in store
                    assert (read(store, [names[number]]) == number).all()
        except BaseException as error:
            failed.append(error)

    readers = [threading.Thread(target=reader, args=(seed,)) for seed in range(3)]
    for one in readers:
        one.start()
    for number, name in enumerate(names):
        store.append([name], np.full((1, 4), number))
    done.set()
    for one in readers:
        one.join()
    store.close()
    assert failed == []


@pytest.mark.parametrize(
    ("code", "problem"), [(errno.ENOSPC, "is full"), (errno.EACCES, "cannot write to")]
)
def test_a_failed_write_is_explained(tmp_path, monkeypatch, code, problem):
    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(ResourceError, match=problem) as caught:
        opened(tmp_path / "a").append(NAMES[:1], ROWS[:1])
    assert "SEVENFOLD_CACHE" in caught.value.cure


def test_caches_are_listed_and_cleared():
    assert caches() == []
    for kind, rows in (("pixels", 8), ("activations", 2)):
        filled(stores.home() / kind / "one", rows)
    (stores.home() / "trunks" / "t").mkdir(parents=True)
    (stores.home() / "trunks" / "t" / "trunk.onnx").write_bytes(b"x" * 2_000_000)
    found = {one["kind"]: one for one in caches()}
    assert {kind: one["rows"] for kind, one in found.items()} == {
        "pixels": 8,
        "activations": 2,
        "trunks": 0,
    }
    assert found["pixels"]["about"] == {"what": "test"}
    assert found["trunks"]["megabytes"] == 2.0
    freed = (8 * (ROWS[0].nbytes + RECORD) + len(json.dumps({"what": "test"}))) / 1e6
    assert clear("pixels") == (pytest.approx(freed), 0)
    assert [one["kind"] for one in caches()] == ["activations", "trunks"]
    assert clear()[0] > 2
    assert caches() == []


def test_what_is_no_store_is_neither_listed_nor_cleared():
    foreign = stores.home() / "activations" / "layer3"
    foreign.mkdir(parents=True)
    (foreign / "thesis.npy").write_bytes(b"1" * 1000)
    notes = stores.home() / "pixels" / "annotations"
    notes.mkdir(parents=True)
    (notes / "boxes.json").write_text("{}", encoding="utf-8")
    deep = stores.home() / "pixels" / "photos"
    (deep / "raw").mkdir(parents=True)
    filled(stores.home() / "pixels" / "one", 2)
    (stores.home() / "pixels" / "one" / ".DS_Store").write_bytes(b"")
    assert [one["name"] for one in caches()] == ["one"]
    clear()
    assert caches() == []
    assert (notes / "boxes.json").exists()
    assert (foreign / "thesis.npy").exists()
    assert (deep / "raw").exists()


def test_what_another_process_uses_is_not_cleared():
    used, free = made("a", 300), made("b", 300)
    with another_process(used) as process:
        assert clear() == (pytest.approx(1e-3), 1)
        assert used.exists()
        assert not free.exists()
        process.stdin.close()
        process.wait()
    assert clear()[1] == 0
    assert not used.exists()


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_a_store_with_a_torn_description_is_listed(text):
    filled(stores.home() / "pixels" / "one", 2)
    (stores.home() / "pixels" / "one" / "about.json").write_text(text, encoding="utf-8")
    (found,) = caches()
    assert (found["about"], found["rows"]) == ({}, 2)


def made(name: str, used: float, size: int = 1000) -> Path:
    """Make a store that another process used so many seconds ago."""
    folder = stores.home() / "activations" / name
    folder.mkdir(parents=True)
    (folder / f"{'a' * 32}.rows").write_bytes(b"x" * size)
    now = folder.stat().st_mtime
    os.utime(folder, (now - used, now - used))
    return folder


def test_room_is_made_by_deleting_what_was_unused_for_longest(monkeypatch):
    old, older, new = made("b", 200), made("a", 300), made("c", 100)
    monkeypatch.setenv("SEVENFOLD_CACHE_GB", "3.5e-6")
    assert make_room(500)
    assert older.exists()
    assert make_room(1500)
    assert [old.exists(), older.exists(), new.exists()] == [True, False, True]
    assert not make_room(3501)
    assert old.exists()


def test_opening_a_store_is_using_it(monkeypatch):
    old, older = made("b", 200), made("a", 300)
    before = older.stat().st_mtime
    opened(older)
    assert older.stat().st_mtime > before
    monkeypatch.setenv("SEVENFOLD_CACHE_GB", "1.5e-6")
    assert not make_room(1000)  # what is in use stays, whatever the bound
    assert older.exists()
    assert not old.exists()


HOLDER = """
import sys
from pathlib import Path
from sevenfold.features.store import Store
Store(Path(sys.argv[1]), (3, 2), "float16", {})
print("open", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def another_process(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Open a store in another process, until its stdin ends."""
    command = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "open\n"
        yield process


def test_a_store_that_another_process_has_opened_stays_until_that_ends(monkeypatch):
    used = made("a", 300)
    monkeypatch.setenv("SEVENFOLD_CACHE_GB", "1.5e-6")
    with another_process(used) as process:
        assert not make_room(1000)
        assert used.exists()
        process.stdin.close()
        process.wait()
        assert not list(used.glob("*.lease"))
    assert make_room(1000)
    assert not used.exists()


def test_a_process_that_was_killed_holds_nothing(monkeypatch):
    used = made("a", 300)
    with another_process(used) as process:
        process.kill()
        process.wait()
    assert list(used.glob("*.lease"))
    monkeypatch.setenv("SEVENFOLD_CACHE_GB", "1.5e-6")
    assert make_room(1000)
    assert not used.exists()


@pytest.mark.parametrize(("hours", "kept"), [(23, True), (25, False)])
def test_a_lease_of_another_machine_holds_for_a_day(hours, kept, monkeypatch):
    used = made("a", 300)
    path = used / "1-elsewhere.lease"
    path.write_text(json.dumps({"pid": 1, "host": "elsewhere", "started": "1"}), encoding="utf-8")
    then = time.time() - 3600 * hours
    os.utime(path, (then, then))
    monkeypatch.setenv("SEVENFOLD_CACHE_GB", "1.5e-6")
    assert make_room(1000) is not kept
    assert used.exists() is kept


def test_a_lease_that_is_being_written_holds():
    used = made("a", 300)
    (used / "1-torn.lease").write_bytes(b"{")
    assert not lease.delete(used)
    assert used.exists()


def test_a_store_that_is_opened_while_it_is_deleted_is_put_back(monkeypatch):
    used = filled(stores.home() / "activations" / "a")
    (mine,) = used.glob("*.lease")
    looks = iter([False, True])
    monkeypatch.setattr(lease, "held", lambda folder: next(looks))
    assert not lease.delete(used)
    assert mine.exists()
    np.testing.assert_array_equal(read(opened(used), NAMES), ROWS)
    assert [one.name for one in used.parent.iterdir()] == ["a"]


def test_a_long_training_touches_its_lease(tmp_path, monkeypatch):
    store = opened(filled(tmp_path / "a"))
    (mine,) = (tmp_path / "a").glob("*.lease")
    os.utime(mine, (1, 1))
    read(store, NAMES)
    assert mine.stat().st_mtime == 1
    monkeypatch.setattr(lease, "BEAT_SECONDS", -1.0)
    read(store, NAMES)
    assert mine.stat().st_mtime > 1


def test_a_bound_that_is_no_number_is_named(monkeypatch):
    monkeypatch.setenv("SEVENFOLD_CACHE_GB", "much")
    with pytest.raises(UsageError, match="SEVENFOLD_CACHE_GB"):
        stores.bound_bytes()


@pytest.fixture
def homeless(monkeypatch):
    def lost():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("SEVENFOLD_CACHE")
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    monkeypatch.setattr(Path, "home", lost)


@pytest.mark.parametrize("system", ["linux", "win32", "darwin"])
def test_without_a_home_folder_the_place_for_the_stores_is_asked_for(homeless, monkeypatch, system):
    monkeypatch.setattr(stores.sys, "platform", system)
    with pytest.raises(ResourceError, match="no home folder") as caught:
        stores.home()
    assert "SEVENFOLD_CACHE" in caught.value.cure


def test_on_windows_the_stores_need_no_home_folder(homeless, monkeypatch, tmp_path):
    monkeypatch.setattr(stores.sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    assert stores.home() == tmp_path / "sevenfold" / "cache"


# The pixels


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return photos.write(tmp_path / "data", {"blue": 7, "green": 7, "red": 7})


@pytest.fixture
def decodings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Count what is decoded."""
    seen: list[str] = []
    real = image._decode

    def counted(content: bytes, name: str, *rest: object) -> object:
        seen.append(name)
        return real(content, name, *rest)

    monkeypatch.setattr(image, "_decode", counted)
    return seen


def dataset_of(folder: Path, pixels: Pixels, threads: int = 1) -> data.Dataset:
    return data.read(
        str(folder),
        fingerprints=lambda listing: ingest(
            listing, pixels=pixels, threads=threads, progress=silent
        ),
    )


def test_ingesting_fills_the_store_and_a_second_time_decodes_nothing(folder, decodings):
    dataset = dataset_of(folder, Pixels(36))
    assert len(decodings) == 21
    pixels = Pixels(36)
    assert len(pixels.store) == 21
    decodings.clear()
    again = dataset_of(folder, pixels)
    assert again.hashes == dataset.hashes
    square = pixels.square(again, 4)
    assert decodings == []
    np.testing.assert_array_equal(square, image.resize(dataset.decode(4), 36))


def test_ingesting_says_what_fingerprinting_says(folder):
    (folder / "red" / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
    listing = data.scan(str(folder))
    found = ingest(listing, pixels=Pixels(36), threads=2, progress=silent)
    expected = data.fingerprint_all(listing, threads=1)
    for one, other, photo in zip(found, expected, listing.photos, strict=True):
        assert isinstance(one, ImageRejected) == photo.path.endswith("torn.png")
        assert str(one) == str(other)


def test_new_pictures_alone_are_decoded(folder, decodings):
    dataset_of(folder, Pixels(36))
    decodings.clear()
    photos.write(folder, {"red": 3}, start=50)
    dataset_of(folder, Pixels(36))
    assert sorted(decodings) == ["red/050.png", "red/051.png", "red/052.png"]


def test_another_side_decodes_again_but_a_known_copy_does_not(folder, decodings):
    dataset_of(folder, Pixels(36))
    assert len(dataset_of(folder, Pixels(20)).photos) == 21
    assert len(decodings) == 42
    decodings.clear()
    (folder / "red" / "copy.png").write_bytes((folder / "red" / "000.png").read_bytes())
    dataset = dataset_of(folder, Pixels(36))
    assert decodings == []
    assert len(dataset.photos) == 22
    assert len(set(dataset.hashes)) == 21


def test_any_number_of_threads_gives_the_same_pixels(folder, monkeypatch, tmp_path):
    found = []
    for threads in (1, 4):
        monkeypatch.setenv("SEVENFOLD_CACHE", str(tmp_path / f"stores{threads}"))
        pixels = Pixels(36)
        dataset = dataset_of(folder, pixels, threads)
        found.append([pixels.square(dataset, at).tobytes() for at in range(len(dataset))])
    assert found[0] == found[1]


def test_without_room_pictures_are_decoded_when_they_are_needed(folder, decodings, monkeypatch):
    stored = Pixels(36)
    dataset = dataset_of(folder, stored)
    expected = stored.square(dataset, 9)
    clear()
    monkeypatch.setenv("SEVENFOLD_CACHE_GB", "0")
    pixels = Pixels(36)
    again = dataset_of(folder, pixels)
    assert again.hashes == dataset.hashes
    assert len(pixels.store) == 0
    decodings.clear()
    np.testing.assert_array_equal(pixels.square(again, 9), expected)
    assert decodings == [again.photos[9].path]


def test_a_large_jpeg_gives_the_same_pixels_stored_or_not(tmp_path):
    # A scale is enough to train on: what is stored must not depend on the room there is.
    folder = tmp_path / "data"
    for label in ("a", "b"):
        (folder / label).mkdir(parents=True)
        for number in range(5):
            noise = np.random.default_rng([number, ord(label)]).integers(0, 256, (60, 60, 3))
            large = Image.fromarray(noise.astype(np.uint8)).resize((1100, 1100), 0)
            large.save(folder / label / f"{number}.jpg", quality=95)
    for side in (400, 600):
        pixels = Pixels(side)
        dataset = dataset_of(folder, pixels)
        stored = pixels.square(dataset, 3)
        clear("pixels")
        np.testing.assert_array_equal(Pixels(side).square(dataset, 3), stored)
        full = Pixels(side, full=True).square(dataset, 3)
        np.testing.assert_array_equal(full, image.resize(dataset.decode(3), side))
        # Half of 1100 is enough for 400; larger squares are not blown up from fewer pixels.
        assert (full != stored).any() == (side == 400)


def test_boxes_are_pictures_of_their_own(folder):
    table = folder / "boxes.csv"
    lines = [
        f'{label}/{number:03}.png,{label},"{x},0,0.5,1"'
        for label in photos.COLOURS
        for number in range(4)
        for x in (0, 0.5)
    ]
    table.write_text("\n".join(["path,label,box", *lines]), encoding="utf-8")
    pixels = Pixels(30)
    dataset = dataset_of(table, pixels)
    assert len(dataset) == len(set(dataset.hashes)) == 24
    assert dataset.decode(0).shape == (40, 20, 3)
    np.testing.assert_array_equal(pixels.square(dataset, 5), image.resize(dataset.decode(5), 30))


# The trunk and the views


@pytest.fixture(scope="module")
def trunk() -> nets.Trunk:
    torch.manual_seed(0)
    network = nets.small("resnet20", 3)
    network.train()
    for number in range(3):
        made = [photos.picture(label, number, 32) for label in photos.COLOURS]
        with torch.no_grad():
            network(torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2).float())
    return nets.cut(network.eval(), 6)[0]


@pytest.fixture(scope="module")
def engine(trunk: nets.Trunk, tmp_path_factory: pytest.TempPathFactory) -> Iterator[engines.Engine]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEVENFOLD_CACHE", str(tmp_path_factory.mktemp("stores")))
        yield engines.engine(trunk, 32, "cpu")


def squares(count: int, side: int = 32) -> np.ndarray:
    return np.stack([photos.picture("red", number, side) for number in range(count)])


def test_both_engines_agree(trunk, engine):
    other = engines._torch_engine(trunk, 32, engine.shape, "cpu")
    ours, theirs = (one.run(squares(8)).astype(np.float64) for one in (engine, other))
    assert ours.shape == theirs.shape == (8, *engine.shape)
    with torch.inference_mode():
        exact = trunk(torch.from_numpy(squares(8)).permute(0, 3, 1, 2).float()).numpy()
    for found in (ours, theirs):
        assert np.abs(found - exact).max() <= 2e-3 * np.abs(exact).max()
    assert engine.key != other.key


def test_activations_do_not_depend_on_the_batch(engine):
    whole = engine.run(squares(7))
    for at in range(7):
        np.testing.assert_array_equal(engine.run(squares(7)[at : at + 1])[0], whole[at])


def test_a_trunk_is_asked_a_few_pictures_at_a_time(trunk, engine, monkeypatch):
    monkeypatch.setattr(engines, "_PIXELS_AT_ONCE", 2 * 32**2)
    few = engines.engine(trunk, 32, "cpu")
    assert few.key == engine.key
    np.testing.assert_array_equal(few.run(squares(7)), engine.run(squares(7)))


def test_an_exported_trunk_is_kept(trunk, monkeypatch):
    first = engines.engine(trunk, 32, "cpu")
    assert [one["kind"] for one in caches()] == ["trunks"]
    monkeypatch.setattr(engines, "to_onnx", lambda *_: 1 / 0)
    again = engines.engine(trunk, 32, "cpu")
    assert again.key == first.key
    np.testing.assert_array_equal(again.run(squares(2)), first.run(squares(2)))


def test_a_trunk_that_is_used_is_not_the_first_to_go(trunk):
    engines.engine(trunk, 32, "cpu")
    folder = Path(caches()[0]["path"])
    os.utime(folder, (1, 1))
    engines.engine(trunk, 32, "cpu")
    assert folder.stat().st_mtime > 1


def test_another_weight_or_side_is_another_trunk(trunk):
    before = engines.digest(trunk, 32)
    assert engines.digest(trunk, 48) != before
    weight = next(trunk.parameters())
    with torch.no_grad():
        weight[0, 0, 0, 0] += 1e-3
        assert engines.digest(trunk, 32) != before
        weight[0, 0, 0, 0] -= 1e-3


VIEWER = viewer(Augmentation(), 32, "")


def counting(engine: engines.Engine) -> tuple[engines.Engine, list[int]]:
    computed: list[int] = []

    def run(rows: np.ndarray) -> np.ndarray:
        computed.append(len(rows))
        return engine.run(rows)

    return dataclasses.replace(engine, run=run), computed


def all_rows(views: StoredViews | LiveViews, pictures: int) -> bytes:
    at = np.repeat(np.arange(pictures), views.count)
    return views.get(at, np.tile(np.arange(views.count), pictures)).tobytes()


def test_twenty_new_pictures_compute_twenty_rows_for_each_view(tmp_path, engine):
    folder = photos.write(tmp_path / "data", dict.fromkeys(photos.COLOURS, 20))
    counted, computed = counting(engine)

    def compute(count: int) -> tuple[data.Dataset, StoredViews | LiveViews]:
        pixels = Pixels(37)
        dataset = dataset_of(folder, pixels)
        views = activations(
            dataset, np.arange(len(dataset)), pixels, VIEWER, counted,
            count=count, threads=2, progress=silent,
        )  # fmt: skip
        return dataset, views

    _, views = compute(2)
    assert isinstance(views, StoredViews)
    assert sum(computed) == 60 * 2
    computed.clear()
    compute(2)
    assert computed == []
    photos.write(folder, {"red": 20}, start=100)
    dataset, views = compute(2)
    assert sum(computed) == 20 * 2
    computed.clear()
    compute(3)
    assert sum(computed) == 80
    expected = engine.run(
        VIEWER.make(Pixels(37).square(dataset, 70), int(dataset.hashes[70][:16], 16), 1)[None]
    )
    np.testing.assert_array_equal(views.get(np.array([70]), np.array([1])), expected)


def test_pictures_decoded_in_full_have_rows_of_their_own(folder, engine):
    counted, computed = counting(engine)
    for full in (False, True):
        pixels = Pixels(32, full=full)
        dataset = dataset_of(folder, Pixels(36))
        activations(
            dataset, np.arange(21), pixels, PLAIN, counted, count=1, threads=1, progress=silent
        )
    assert sum(computed) == 42


def test_a_killed_computation_goes_on(folder, engine):
    pixels = Pixels(37)
    dataset = dataset_of(folder, pixels)
    counted, computed = counting(engine)

    class Kill(BaseException):
        pass

    def killing(_stage: str, done: int, _total: int) -> None:
        if done >= 16:
            raise Kill

    def compute(progress: object) -> StoredViews | LiveViews:
        return activations(
            dataset, np.arange(21), pixels, VIEWER, counted, count=2, threads=1, progress=progress
        )

    with pytest.raises(Kill):
        compute(killing)
    computed.clear()
    compute(silent)
    assert sum(computed) == 42 - 16


def test_copies_are_computed_once(folder, engine):
    (folder / "red" / "copy.png").write_bytes((folder / "red" / "000.png").read_bytes())
    pixels = Pixels(37)
    dataset = dataset_of(folder, pixels)
    counted, computed = counting(engine)
    views = activations(
        dataset, np.arange(22), pixels, PLAIN_37, counted, count=1, threads=1, progress=silent
    )
    assert sum(computed) == 21
    copies = [at for at, name in enumerate(dataset.hashes) if dataset.hashes.count(name) == 2]
    first, second = views.get(np.array(copies), np.zeros(2, int))
    np.testing.assert_array_equal(first, second)


PLAIN_37 = viewer(dataclasses.replace(Augmentation.off, flip=0.1), 32, "")


def test_threads_and_room_do_not_change_a_row(folder, engine, monkeypatch, tmp_path):
    found = []
    for name, threads, gigabytes in (("a", 1, "1"), ("b", 3, "1"), ("c", 2, "0")):
        monkeypatch.setenv("SEVENFOLD_CACHE", str(tmp_path / name))
        monkeypatch.setenv("SEVENFOLD_CACHE_GB", gigabytes)
        pixels = Pixels(37)
        dataset = dataset_of(folder, pixels, threads)
        views = activations(
            dataset, np.arange(21), pixels, VIEWER, engine,
            count=3, threads=threads, progress=silent,
        )  # fmt: skip
        assert isinstance(views, StoredViews if gigabytes == "1" else LiveViews)
        assert views.count == 3
        found.append(all_rows(views, 21))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize(("threaded", "asked"), [(True, [31, 32]), (False, [63])])
def test_without_room_each_thread_takes_a_part(folder, engine, monkeypatch, threaded, asked):
    monkeypatch.setenv("SEVENFOLD_CACHE_GB", "0")
    counted, computed = counting(dataclasses.replace(engine, threaded=threaded))
    pixels = Pixels(37)
    views = activations(
        dataset_of(folder, pixels), np.arange(21), pixels, VIEWER, counted,
        count=3, threads=2, progress=silent,
    )  # fmt: skip
    all_rows(views, 21)
    assert sorted(computed) == asked


def test_rows_that_are_all_there_need_no_room(folder, engine, monkeypatch):
    pixels = Pixels(37)
    dataset = dataset_of(folder, pixels)
    counted, computed = counting(engine)
    for gigabytes in ("1", "0"):
        monkeypatch.setenv("SEVENFOLD_CACHE_GB", gigabytes)
        views = activations(
            dataset, np.arange(21), pixels, VIEWER, counted, count=2, threads=1, progress=silent
        )
        assert isinstance(views, StoredViews)
    all_rows(views, 21)
    assert sum(computed) == 42


def test_room_for_one_store_is_not_taken_from_another_in_use(folder, engine, monkeypatch):
    pixels = Pixels(37)
    dataset = dataset_of(folder, pixels)
    everything = np.arange(21)
    views = activations(
        dataset, everything, pixels, VIEWER, engine, count=2, threads=1, progress=silent
    )
    held = sum(one["megabytes"] for one in caches()) / 1000
    monkeypatch.setenv("SEVENFOLD_CACHE_GB", str(held + 1e-6))
    full = Pixels(32, full=True)
    plain = activations(
        dataset, everything, full, PLAIN, engine, count=1, threads=1, progress=silent
    )
    assert isinstance(plain, LiveViews)
    all_rows(views, 21)  # still there
    all_rows(plain, 21)


def test_views_of_pixels_never_end(folder):
    pixels = Pixels(37)
    dataset = dataset_of(folder, pixels)
    views = pixel_views(dataset, pixels, VIEWER, threads=2)
    assert views.count == 0
    rows = views.get(np.array([4, 4, 2]), np.array([0, 1000, 0]))
    assert rows.shape == (3, 32, 32, 3)
    assert rows.dtype == np.uint8
    assert (rows[0] != rows[1]).any()
    np.testing.assert_array_equal(views.get(np.array([4]), np.array([1000]))[0], rows[1])
    plain = pixel_views(dataset, Pixels(32, full=True), PLAIN, threads=1, count=1)
    np.testing.assert_array_equal(
        plain.get(np.array([2]), np.array([0]))[0], image.resize(dataset.decode(2), 32)
    )


def test_a_trunk_stays_where_it_is(trunk: nets.Trunk, monkeypatch: pytest.MonkeyPatch) -> None:
    engines._torch_engine(trunk, 32, (1,), "meta")
    assert {one.device.type for one in trunk.parameters()} == {"cpu"}


def test_rows_are_asked_for_by_many_threads_which_mps_does_not_survive(
    trunk: nets.Trunk, engine: engines.Engine
) -> None:
    assert engines.engine(trunk, 32, "mps").key == engine.key
