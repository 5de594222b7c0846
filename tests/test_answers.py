import builtins
import csv
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevenfold import answers
from sevenfold.answers import Answer, Failure, bare, guarded, unanswered, write
from sevenfold.errors import ResourceError, UsageError

CLASSES = ("a", "=b", "c, d")
PATHS = ["-1.jpg", 'q"uote,\n.jpg', "ü.jpg", "\r=x", "plain.png", "'=.gif"]
FORMATS = pytest.mark.parametrize("name", ["out.csv", "out.parquet"])


def answer(path: str) -> Answer:
    first = (len(path) % 7) / 10 + 1 / 30
    shares = (first, 0.1 + 0.2, 1 - first - 0.1 - 0.2)
    return Answer(path, CLASSES[1], 0.1 + 0.2, shares, len(path) % 2 == 0, len(path) % 3 == 0)


def rows(path: Path) -> list[Answer]:
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            header, *found = csv.reader(file)
        shares = [f"p:{name}" for name in CLASSES]
        assert header == ["path", "label", "probability", *shares, "sure", "unlike", "model"]
        cells = [
            [
                *map(bare, row[:2]),
                *map(float, row[2:-3]),
                *(cell == "yes" for cell in row[-3:-1]),
                row[-1],
            ]
            for row in found
        ]
    else:
        import pyarrow.parquet

        cells = [list(row.values()) for row in pyarrow.parquet.read_table(path).to_pylist()]
    return [Answer(*cell[:3], tuple(cell[3:-3]), *cell[-3:-1], model=cell[-1]) for cell in cells]


def sources(paths: list[str]):
    return [(path, bytes) for path in paths]


def left(path: Path, paths: list[str], classes=CLASSES) -> list[str]:
    return [name for name, _ in unanswered(path, sources(paths), classes)]


@FORMATS
def test_answers_of_another_model_are_not_kept(tmp_path, name):
    out = tmp_path / name
    write(out, [replace(answer("a"), model="0a"), replace(answer("b"), model="0a")], CLASSES)
    assert {row.model for row in rows(out)} == {"0a"}
    assert [path for path, _ in unanswered(out, sources(["a", "c"]), CLASSES, "0a")] == ["c"]
    with pytest.raises(UsageError, match="of another model"):
        unanswered(out, sources(["a", "c"]), CLASSES, "0b")


@given(st.text())
def test_guarding_is_undone_exactly_and_leaves_no_formula(cell):
    assert bare(guarded(cell)) == cell
    assert not guarded(cell).startswith(("=", "+", "-", "@", "\t", "\r"))


@given(st.text("'=-@a\t", max_size=5))
def test_guarding_is_undone_exactly_where_quotes_pile_up(cell):
    assert bare(guarded(cell)) == cell


@FORMATS
def test_answers_come_back_to_the_last_bit(tmp_path, name):
    outcomes = [answer(path) for path in PATHS]
    outcomes.insert(2, Failure("broken.jpg", "cut short"))
    written = write(tmp_path / name, iter(outcomes), CLASSES)
    assert written.answers == len(PATHS)
    assert written.failures == (Failure("broken.jpg", "cut short"),)
    assert rows(tmp_path / name) == [answer(path) for path in PATHS]
    assert [file.name for file in tmp_path.iterdir()] == [name]


@FORMATS
def test_no_answers_give_an_empty_table(tmp_path, name):
    assert write(tmp_path / name, [], CLASSES).answers == 0
    assert rows(tmp_path / name) == []
    assert left(tmp_path / name, PATHS) == PATHS


@FORMATS
def test_an_interrupted_file_is_continued(tmp_path, name, monkeypatch):
    monkeypatch.setattr(answers, "ROWS_PER_PART", 2)
    out = tmp_path / name

    def interrupted():
        yield from (answer(path) for path in PATHS[:3])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(out, interrupted(), CLASSES)
    assert left(out, PATHS) == PATHS[3:]
    write(out, [answer(path) for path in left(out, PATHS)], CLASSES)
    assert rows(out) == [answer(path) for path in PATHS]
    assert left(out, [*PATHS, "new"]) == ["new"]
    write(out, [answer("new")], CLASSES)
    assert [row.path for row in rows(out)] == [*PATHS, "new"]


def test_a_csv_torn_at_any_byte_is_continued(tmp_path):
    whole = tmp_path / "whole.csv"
    write(whole, [answer(path) for path in PATHS], CLASSES)
    data = whole.read_bytes()
    torn = tmp_path / "torn.csv"
    for end in range(len(data)):
        torn.write_bytes(data[:end])
        rest = left(torn, PATHS)
        write(torn, [answer(path) for path in rest], CLASSES)
        assert torn.read_bytes() == data, end


@pytest.mark.parametrize("joined", [True, False])
def test_a_parquet_killed_around_its_join_loses_and_doubles_nothing(tmp_path, monkeypatch, joined):
    out = tmp_path / "out.parquet"

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(answers, "_clear" if joined else "_join", killed)
    with pytest.raises(KeyboardInterrupt):
        write(out, [answer(path) for path in PATHS], CLASSES)
    monkeypatch.undo()
    assert out.exists() == joined
    assert left(out, [*PATHS, "new"]) == ["new"]
    write(out, [answer("new")], CLASSES)
    assert [row.path for row in rows(out)] == [*PATHS, "new"]
    assert os.listdir(tmp_path) == ["out.parquet"]


@FORMATS
def test_answers_for_other_classes_are_never_touched(tmp_path, name):
    out = tmp_path / name
    write(out, [answer("x")], CLASSES)
    before = out.read_bytes()
    for classes in (("a", "b"), ("a", "=b", "c")):
        with pytest.raises(UsageError, match=name):
            left(out, PATHS, classes)
        with pytest.raises(UsageError, match=name):
            write(out, [], classes)
    assert out.read_bytes() == before


@FORMATS
@pytest.mark.parametrize("data", [b"my thesis", b"path,label,probability\nx", b"PAR1"])
def test_foreign_files_are_never_touched(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UsageError, match=name):
        write(tmp_path / name, [answer("x")], CLASSES)
    assert (tmp_path / name).read_bytes() == data


def test_a_csv_damaged_inside_is_never_touched(tmp_path):
    out = tmp_path / "out.csv"
    write(out, [answer(path) for path in ("one", "two")], CLASSES)
    data = out.read_bytes().replace(b"one,", b"one,,")
    out.write_bytes(data)
    with pytest.raises(UsageError):
        write(out, [answer("x")], CLASSES)
    assert out.read_bytes() == data


def test_other_suffixes_are_refused(tmp_path):
    with pytest.raises(UsageError, match="txt"):
        write(tmp_path / "out.txt", [], CLASSES)


@FORMATS
def test_what_cannot_be_written_is_a_resource_error(tmp_path, name):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ResourceError, match="cannot write"):
        write(tmp_path / "file" / name, [answer("x")], CLASSES)
    assert write(tmp_path / "new" / "folder" / name, [answer("x")], CLASSES).answers == 1


def test_parquet_without_pyarrow_names_the_cure(tmp_path, monkeypatch):
    real = builtins.__import__

    def blocked(name, *args, **kwargs):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", blocked)
    with pytest.raises(ResourceError) as caught:
        write(tmp_path / "out.parquet", [], CLASSES)
    assert 'pip install ".[train]"' in caught.value.cure
