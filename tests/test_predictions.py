import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sevenfold.errors import DataError, ModelError
from sevenfold.evaluate import score
from sevenfold.predictions import (
    Predictions,
    read_predictions,
    recompute,
    recorded,
    write_predictions,
)

CLASSES = ("=cat", "dog, wet", "ö")


def made(rng: np.random.Generator, count: int = 30) -> Predictions:
    weights = rng.random((count, 3)) ** 3
    return Predictions(
        classes=CLASSES,
        paths=tuple(f"-{i}.jpg" for i in range(count)),
        hashes=tuple(f"{i:032x}" for i in range(count)),
        roles=tuple("test" if i % 3 else "train" for i in range(count)),
        groups=tuple(f"@{i // 2}" for i in range(count)),
        folds=rng.integers(-1, 5, count),
        labels=rng.integers(0, 3, count),
        probabilities=weights / weights.sum(axis=1, keepdims=True),
    )


@given(path=st.text(st.characters(exclude_categories=["Cs"])), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_reading_gives_the_same_bits(path, seed, tmp_path_factory):
    file = tmp_path_factory.mktemp("rows") / "predictions.csv"
    before = made(np.random.default_rng(seed))
    before = replace(before, paths=(path, *before.paths[1:]))
    write_predictions(file, before)
    after = read_predictions(file)
    for name in ("classes", "paths", "hashes", "roles", "groups"):
        assert getattr(after, name) == getattr(before, name)
    for name in ("folds", "labels", "probabilities"):
        assert (getattr(after, name) == getattr(before, name)).all()


def test_scores_are_recomputed_to_the_last_bit(tmp_path):
    before = made(np.random.default_rng(0), 90)
    write_predictions(tmp_path / "p.csv", before)
    rows = [i for i, role in enumerate(before.roles) if role == "test"]
    expected = score(
        before.probabilities[rows],
        before.labels[rows],
        CLASSES,
        groups=[before.groups[i] for i in rows],
        resamples=100,
    )
    found = recompute(read_predictions(tmp_path / "p.csv"), resamples=100)
    assert found == expected
    assert (found.confusion == expected.confusion).all()
    assert found.groups < found.pictures


def test_what_was_said_of_pictures_is_found_by_content_and_role(tmp_path):
    before = made(np.random.default_rng(0))
    write_predictions(tmp_path / "p.csv", before)
    wanted = [8, 1, 4]
    found = recorded(tmp_path / "p.csv", "test", [before.hashes[row] for row in wanted])
    assert (found == before.probabilities[wanted]).all()
    assert recorded(tmp_path / "p.csv", "test", []).shape == (0, 3)
    with pytest.raises(ModelError, match="lacks pictures"):
        recorded(tmp_path / "p.csv", "test", [before.hashes[0]])  # that was trained on


def test_no_cell_starts_a_formula(tmp_path):
    write_predictions(tmp_path / "p.csv", made(np.random.default_rng(0)))
    with (tmp_path / "p.csv").open(encoding="utf-8", newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]


def test_another_tools_file_needs_few_columns(tmp_path):
    file = tmp_path / "foreign.csv"
    file.write_text("\ufeffp:b,label,path,p:a,note\n0.25,a,x.jpg,0.75,hm\n", encoding="utf-8")
    found = read_predictions(file)
    assert found.classes == ("b", "a")
    assert (found.roles, found.groups, found.folds.tolist()) == (("",), ("",), [-1])
    assert recompute(found, role="").accuracy.value == 1


HEADER = "path,label,answer,fold,p:a,p:b\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "columns"),
        ("path,label,p:a\n", "columns"),
        ("path,p:a,p:b\n", "columns"),
        ("path,label,p:a,p:a\n", "columns"),
        (HEADER + "x,a,a,,0.5\n", "row 2: .* cells"),
        (HEADER + "x,a,a,,0.5,0.5,1\n", "row 2: .* cells"),
        (HEADER + "x,a,a,,0.5,much\n", "row 2: .*much"),
        (HEADER + "x,a,a,one,0.5,0.5\n", "row 2: .*one"),
        (HEADER + "x,a,a,,0.5,0.6\n", "row 2: .*sum 1"),
        (HEADER + "x,a,a,,nan,0.5\n", "row 2: .*sum 1"),
        (HEADER + "x,c,a,,0.5,0.5\n", "row 2: .*p:c"),
        (HEADER + "x,a,b,,0.6,0.4\n", "row 2: .*most probable"),
        (HEADER + 'x,a,"a\n', "cannot read"),
    ],
)
def test_a_row_that_does_not_fit_is_named(tmp_path: Path, text, said):
    file = tmp_path / "p.csv"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=said):
        read_predictions(file)


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", None])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, data):
    file = tmp_path / "p.csv"
    if data:
        file.write_bytes(data)
    with pytest.raises(DataError, match=r"p\.csv"):
        read_predictions(file)


def test_a_role_without_rows_has_no_scores():
    with pytest.raises(DataError, match="no pictures"):
        recompute(made(np.random.default_rng(0)), role="val")
