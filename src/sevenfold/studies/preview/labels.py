"""Ask a trained model which operations change what the pictures show."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float, UInt8

from sevenfold import data as datasets
from sevenfold import draws, image, swap
from sevenfold import recipe as recipes
from sevenfold.cores import usable_cores
from sevenfold.errors import DataError, ImageRejected, ModelError, UsageError
from sevenfold.practices import augmentation
from sevenfold.practices.augmentation import Augmentation, Finding
from sevenfold.predict import Predictor
from sevenfold.progress import Progress
from sevenfold.studies.preview.sheet import Picture, in_random_order, readable

_RANKS: Final = (augmentation.CHANGES, "hard")


@dataclass(frozen=True)
class Checked:
    """Hold what the label check found.

    Args:
        model: that answered.
        pictures: that it answered.
        held_out: whether they are known to be none of the model's training pictures.
        known: whether it is known what the model was trained with.
        blind: operations that it was trained with: a change of label by them may go unseen.
        findings: flagged ones first, then by the drop.
        settings: options of `train` that spare each class what was flagged.
        insist: whether the recipe keeps what was flagged all the same.
        clean: options of `train` that make a model which is blind to nothing.
    """

    model: str
    pictures: int
    held_out: bool
    known: bool
    blind: tuple[str, ...]
    findings: tuple[Finding, ...]
    settings: tuple[str, ...]
    insist: bool
    clean: tuple[str, ...]

    @property
    def flagged(self) -> tuple[Finding, ...]:
        """Return the findings of a change of label."""
        return tuple(one for one in self.findings if one.verdict == augmentation.CHANGES)

    @property
    def classes(self) -> int:
        """Return how many classes were looked at."""
        return len({one.label for one in self.findings})

    @property
    def unjudged(self) -> tuple[str, ...]:
        """Return those of them that had too few pictures to be judged."""
        return augmentation.unjudged(self.findings)


def checked(
    listing: datasets.Listing,
    predictor: Predictor,
    model: Path,
    settings: Augmentation,
    *,
    pictures: int,
    seed: int,
    threads: int,
    progress: Progress,
) -> Checked:
    """Run the label check on pictures that the model was not trained on.

    Views have the size that the graph resizes to, and answers come from the graph
    that ships. Each class is checked at its own reach.

    Args:
        listing: the data; of a run's own, validation pictures alone are looked at.
        predictor: what answers.
        model: the run or bundle that it comes from.
        settings: whose operations are checked.
        pictures: of each class, at most.
        seed: chooses the pictures.
        threads: 0 is one for each core.
        progress: is told how many sets of views have been answered.

    Raises:
        DataError: there is no picture that the model was not trained on.
        ModelError: the run is damaged.
    """
    known = datasets.known(model)
    found = list(_held_out(listing, known, predictor.size, pictures, seed))
    if not found:
        raise DataError(
            f"{image.shown(listing.name)} has no picture that the model was not trained on",
            "give pictures that it has not seen, or a run that kept validation pictures",
        )
    names, some = zip(*found, strict=True)
    index = {name: at for at, name in enumerate(predictor.classes)}
    total = 1 + len(augmentation.by_class(settings, predictor.classes))
    done = 0
    with ThreadPoolExecutor(threads or usable_cores()) as executor:

        def answer(
            views: UInt8[np.ndarray, "pictures side side 3"],
        ) -> Float[np.ndarray, "pictures classes"]:
            nonlocal done
            answers = np.stack(list(executor.map(predictor.probabilities, views)))
            done += 1
            progress("label check", done, total)
            return answers

        findings = augmentation.check(
            answer,
            [one.square for one in some],
            np.array([index[name] for name in names], np.int64),
            draws.numbers([one.hash for one in some]),
            settings,
            predictor.size,
            predictor.classes,
        )
    trained_with = _trained_with(model)
    return Checked(
        str(model),
        len(found),
        bool(known.rows) or _given_val(listing),
        trained_with is not None,
        _shared(settings, trained_with or Augmentation.off),
        tuple(sorted(findings, key=_order)),
        _sparing(settings, findings),
        settings.insist,
        _switched_off(settings),
    )


def _given_val(listing: datasets.Listing) -> bool:
    """Tell whether the data's own val pictures are such as no training takes."""
    outside = sum(photo.role != "test" for photo in listing.photos)
    return outside >= datasets.SMALL_DATA and any(photo.role == "val" for photo in listing.photos)


def _order(finding: Finding) -> tuple[int, float]:
    rank = _RANKS.index(finding.verdict) if finding.verdict in _RANKS else len(_RANKS)
    return rank, finding.augmented - finding.clean


def _held_out(
    listing: datasets.Listing, known: datasets.Manifest, side: int, most: int, seed: int
) -> Iterator[tuple[str, Picture]]:
    """Decode pictures in random order until each class has enough that are held out."""
    by_path = {}
    if known.source == listing.source.location:  # spares decoding what was trained on
        by_path = {(row.path, row.box): row.role for row in known.rows}
    by_hash = {row.hash: row.role for row in known.rows}
    # Where the data gives roles, what has none is trained on.
    other: datasets.Role = (
        "train" if any(photo.role for photo in listing.photos) and not by_hash else "val"
    )
    counts: Counter[str] = Counter()
    for photo in in_random_order(list(listing.photos), seed):
        role = photo.role or by_path.get((photo.path, photo.box), other)
        if role != "val" or counts[photo.label] >= most:
            continue
        try:
            picture = readable(listing, photo, side)
        except ImageRejected:
            continue
        if by_hash.get(picture.hash, "val") == "val":
            counts[photo.label] += 1
            yield photo.label, picture


def _trained_with(model: Path) -> Augmentation | None:
    """Read a run's augmentation; None where nothing says it."""
    path = swap.served(model, "recipe.toml")
    if not path.is_file():
        return None
    try:
        return recipes.read(path, recipes.Recipe()).augmentation
    except UsageError as error:
        raise ModelError(error.problem, "give the bundle in the run, or train again") from error


def _shared(settings: Augmentation, other: Augmentation) -> tuple[str, ...]:
    trained_with = {one.name for one in augmentation.operations(other)}
    checked_ones = dict.fromkeys(one.name for one in augmentation.operations(settings))
    return tuple(name for name in checked_ones if name in trained_with)


def _sparing(settings: Augmentation, findings: Sequence[Finding]) -> tuple[str, ...]:
    spared = augmentation.excluding(settings, findings).class_off
    new = {name: value for name, value in spared.items() if settings.class_off.get(name) != value}
    if any("=" in name or name != name.strip() for name in new):
        # A name that an option cannot hold is written in a table, as TOML quotes it.
        pairs = (f"{_quoted(name)} = {_quoted(value)}" for name, value in spared.items())
        return ("--set", f"augmentation.class_off={{{', '.join(pairs)}}}")
    options = [("--set", f"augmentation.class_off.{name}={value}") for name, value in new.items()]
    return tuple(part for option in options for part in option)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _switched_off(settings: Augmentation) -> tuple[str, ...]:
    """Return options that switch off all that is on by default or in these settings."""
    options = []
    for name in (*augmentation.OPERATIONS, "policy", "mixup", "cutmix"):
        off: Any = getattr(Augmentation.off, name)
        if any(getattr(value, name) != off for value in (Augmentation(), settings)):
            shown = f"{off:g}" if isinstance(off, float) else str(off).lower()
            options += ["--set", f"augmentation.{name}={shown}"]
    return tuple(options)
