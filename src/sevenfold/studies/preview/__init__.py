"""Show what the network will see: each class in its views, each operation alone."""

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from sevenfold import data as datasets
from sevenfold import predict as prediction
from sevenfold.errors import DataError, UsageError
from sevenfold.image import shown
from sevenfold.progress import Progress
from sevenfold.recipe import Recipe
from sevenfold.studies.preview.drawing import drawn
from sevenfold.studies.preview.labels import Checked, checked
from sevenfold.studies.preview.page import render
from sevenfold.studies.preview.sheet import Row, Sheet, Tile, contact_sheet

__all__ = ["Checked", "Row", "Sheet", "Tile", "checked", "contact_sheet", "preview"]

SCHEMA: Final = "sevenfold.preview/1"


def preview(
    data: str,
    out: Path,
    *,
    recipe: Recipe,
    columns: Mapping[str, str],
    classes: int,
    views: int,
    model: Path | None,
    pictures: int,
    seed: int,
    threads: int,
    progress: Progress,
) -> dict[str, Any]:
    """Write a contact sheet, `preview.png` and `preview.html`, and return its facts.

    Decodes only the pictures that it shows, and those that the label check answers.

    Args:
        data: folder, table or packaged name.
        out: folder for both files.
        recipe: whose augmentation and side are shown.
        columns: names of a table's columns, by what they hold.
        classes: shown at most, 1 or more.
        views: of each, 1 or more.
        model: run or bundle for the label check; None checks nothing.
        pictures: of each class that the check looks at, at most.
        seed: chooses the pictures; without a frozen trunk also their views, as in training.
        threads: 0 is one for each core.
        progress: is told how far the check is.

    Returns:
        The object of `preview --json`.

    Raises:
        UsageError: a setting names a class or an operation that does not exist, or
            `out` is no place for the files.
        DataError: there are no pictures, or the model does not know their classes.
        ModelError: the model is damaged.
    """
    began = time.perf_counter()
    _refuse_place(data, out)
    predictor = prediction.load(model, threads=1) if model else None
    listing = datasets.scan(data, columns=columns)
    if predictor is not None:
        _refuse_strangers(listing, predictor)
    sheet = contact_sheet(listing, recipe, classes=classes, views=views, seed=seed)
    check = None
    if model is not None and predictor is not None:
        check = checked(
            listing,
            predictor,
            model,
            recipe.augmentation,
            pictures=pictures,
            seed=seed,
            threads=threads,
            progress=progress,
        )
    named = ",".join(f"{role}={column}" for role, column in columns.items())
    source = (data, "--columns", named) if named else (data,)
    text = render(sheet, recipe.augmentation, check, source)
    out.mkdir(parents=True, exist_ok=True)
    drawn(sheet).save(out / "preview.png", compress_level=1)
    (out / "preview.html").write_text(text, encoding="utf-8", newline="\n")
    return {
        "schema": SCHEMA,
        "png": str(out / "preview.png"),
        "html": str(out / "preview.html"),
        "data": sheet.name,
        "pictures": len(listing.photos),
        "classes": [
            {"label": row.title, "picture": row.picture, "views": len(row.tiles) - 1}
            for row in sheet.classes
        ],
        "classes_left_out": sheet.left_out,
        "operations": [
            {"setting": row.title, "meaning": row.note, "views": [t.caption for t in row.tiles[1:]]}
            for row in sheet.operations
        ],
        "remarks": list(sheet.remarks),
        "check": {} if check is None else asdict(check),
        "seconds": time.perf_counter() - began,
    }


def _refuse_place(data: str, out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {shown(str(out))} is a file", "name a folder")
    datasets.refuse_among(data, out)


def _refuse_strangers(listing: datasets.Listing, predictor: prediction.Predictor) -> None:
    strange = sorted(set(listing.classes) - set(predictor.classes))
    if strange:
        more = f" and {len(strange) - 5} more" if len(strange) > 5 else ""
        raise DataError(
            f"the model does not know {', '.join(map(shown, strange[:5]))}{more}: "
            f"its classes are {', '.join(map(shown, predictor.classes[:5]))}"
            f"{', …' if len(predictor.classes) > 5 else ''}",
            "give --check a model that was trained on these classes",
        )
