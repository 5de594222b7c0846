"""Gather the pictures of a contact sheet, exactly as training makes them."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import UInt8

from sevenfold import draws, image
from sevenfold.data import Listing, Photo
from sevenfold.errors import DataError, ImageRejected
from sevenfold.features.pixels import MARGIN, squared
from sevenfold.practices import augmentation, transfer
from sevenfold.practices.augmentation import Augmentation, Operation
from sevenfold.recipe import Recipe

_ATTEMPTS: Final = 8  # unreadable pictures of a class before it is given up
_NAME: Final = 80
_BLENDS: Final = 4
_PACKAGED_BLOCKS: Final = 17
_ASKED_FOR_COLOUR: Final = 64  # pictures at most, before all are taken for grey

_MEANING: Final[Mapping[str, str]] = {
    "flip": "mirrored",
    "flip_vertical": "upside down",
    "quarter_turns": "turned by 90, 180 and 270°",
    "rotation_degrees": "turned by up to {value:g}° to either side",
    "crop": "cut to as little as {value:.0%} of the area",
    "stretch": "stretched by up to {value:g} times",
    "translation": "shifted by up to {value:.0%} of the side",
    "brightness": "up to {value:.0%} darker or brighter",
    "contrast": "up to {value:.0%} less or more contrast",
    "saturation": "colours up to {value:.0%} paler or stronger",
    "hue": "all hues turned by up to {degrees:.0f}° of the circle",
    "blur": "blurred by up to {sigma:.1f} pixels",
    "noise": "noise of up to {noise:.0%} of the range",
    "erasing": "up to {area:.0%} of the area erased",
}
# What is seen: a frame that moves left shows the picture further right.
_WAYS: Final[Mapping[tuple[str, str], str]] = {
    ("stretch", "least"): "wider",
    ("stretch", "most"): "taller",
    ("translation", "least across"): "to the right",
    ("translation", "most across"): "to the left",
    ("translation", "least down"): "down",
    ("translation", "most down"): "up",
}
_BESIDE_POLICY: Final = ("flip", "flip_vertical", "quarter_turns", "crop")
_OF_COLOURS: Final = ("saturation", "hue")
_SHARES: Final = ("flip", "flip_vertical", "blur", "noise", "erasing")
_BLUR: Final = 1.5 / 160  # the largest sigma as a share of the side; see `Augmentation`


@dataclass(frozen=True, slots=True)
class Tile:
    """Hold one picture of the sheet.

    Args:
        caption: what it shows, in a word or two.
        pixels: as the network gets them.
    """

    caption: str
    pixels: UInt8[np.ndarray, "side side 3"]


@dataclass(frozen=True, slots=True)
class Row:
    """Hold a picture and what is made of it.

    Args:
        title: the class, or the setting and its value.
        note: what is special about it.
        picture: path of the picture.
        tiles: the picture itself, then its views.
    """

    title: str
    note: str
    picture: str
    tiles: tuple[Tile, ...]


@dataclass(frozen=True, slots=True)
class Sheet:
    """Hold a contact sheet.

    Args:
        name: of the data.
        side: of the views in pixels.
        pictures: of the data, whether shown or not.
        classes: a row for each class that is shown.
        left_out: classes that are not.
        operations: a row for each operation alone, at its full reach.
        remarks: what the pictures do not show.
    """

    name: str
    side: int
    pictures: int
    classes: tuple[Row, ...]
    left_out: int
    operations: tuple[Row, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """Hold one decoded picture.

    Args:
        path: as shown to people.
        hash: of its content.
        square: as the pixel store keeps it.
    """

    path: str
    hash: str
    square: UInt8[np.ndarray, "source source 3"]

    @property
    def number(self) -> int:
        """Return the 64 bits that decide its views."""
        return int(draws.numbers([self.hash])[0])


def readable(listing: Listing, photo: Photo, side: int) -> Picture:
    """Decode one photo to the square that training starts from, for views of a side.

    Raises:
        ImageRejected: it cannot be used.
    """
    found, square = squared(listing.source.load(photo), photo, round(MARGIN * side))
    return Picture(image.shown(photo.path), found.hash, square)


def in_random_order(photos: list[Photo], seed: int) -> list[Photo]:
    """Shuffle photos by their paths: another seed, another order."""
    numbers = np.array([draws.number(image.shown(one.path)) for one in photos], np.uint64)
    return [photos[place] for place in draws.order(f"{seed}/preview", numbers, 0).tolist()]


def contact_sheet(
    listing: Listing, recipe: Recipe, *, classes: int, views: int, seed: int
) -> Sheet:
    """Decode one training picture of each class and make its views.

    Args:
        listing: the data, undecoded.
        recipe: its augmentation, side and frozen trunk decide the views.
        classes: shown at most; those with settings of their own come first.
        views: of each picture; no more than the recipe stores.
        seed: chooses the pictures; without a frozen trunk also the views.

    Raises:
        UsageError: a setting names a class or an operation that does not exist, or asks for
            colours of grey pictures.
        DataError: no picture can be read.
    """
    settings = recipe.augmentation
    augmentation.refuse_idle(settings)
    each = dict(
        zip(listing.classes, augmentation.for_classes(settings, listing.classes), strict=True)
    )
    own = {*settings.class_strength, *settings.class_off}
    wanted = sorted(each, key=lambda name: name not in own)[:classes]
    frozen = _is_frozen(recipe, seed)
    count = min(views, recipe.views) if frozen and recipe.views else views
    counts = Counter(photo.label for photo in listing.photos)
    rows, pictures = [], []
    for name in wanted:
        picture = _picture(listing, name, seed, recipe.side)
        if picture is None:
            continue
        pictures.append(picture)
        viewer = augmentation.viewer(each[name], recipe.side, "" if frozen else str(seed))
        made = [viewer.make(picture.square, picture.number, view) for view in range(count)]
        tiles = [Tile(f"view {view + 1}", pixels) for view, pixels in enumerate(made)]
        note = ", ".join((f"{counts[name]:,} pictures", *_special(settings, name)))
        rows.append(Row(short(name), note, picture.path, (_original(picture, recipe), *tiles)))
    if not pictures:
        raise DataError(
            f"{image.shown(listing.name)}: no picture of any class shown can be read",
            "`sevenfold train` names each unreadable picture; replace them or leave them out",
        )
    augmentation.refuse_grey(settings, _squares(listing, pictures, seed, recipe.side))
    return Sheet(
        short(listing.name),
        recipe.side,
        len(listing.photos),
        tuple(rows),
        len(listing.classes) - len(rows),
        (*_operation_rows(pictures[0], recipe), *_mixed(rows, pictures, recipe, seed, frozen)),
        tuple(_remarks(recipe, each, pictures, frozen, len(wanted) - len(rows))),
    )


def _is_frozen(recipe: Recipe, seed: int) -> bool:
    """Tell whether views are stored and shared by all seeds, as training decides it."""
    settings = recipe.transfer
    blocks = _PACKAGED_BLOCKS
    if settings.trainable_blocks == transfer.ALL_BLOCKS:
        return False
    if settings.backbone != transfer.PACKAGED:  # any other has to be built to be counted
        random = replace(settings, weights="random", sha256="")
        blocks = len(transfer.build(random, 2, recipe.side, seed)[0].blocks)
    return settings.trainable_blocks < blocks


def _picture(listing: Listing, label: str, seed: int, side: int) -> Picture | None:
    """Return a training picture of a class, or None where none of several can be read."""
    photos = [one for one in listing.photos if one.label == label and one.role in ("", "train")]
    for photo in in_random_order(photos, seed)[:_ATTEMPTS]:
        try:
            return readable(listing, photo, side)
        except ImageRejected:
            continue
    return None


def _squares(
    listing: Listing, pictures: Sequence[Picture], seed: int, side: int
) -> Iterator[UInt8[np.ndarray, "source source 3"]]:
    """Hand out the pictures that are shown, then others, each when it is asked for."""
    yield from (one.square for one in pictures)
    photos = [one for one in listing.photos if one.role in ("", "train")]
    for photo in in_random_order(photos, seed)[:_ASKED_FOR_COLOUR]:
        try:
            yield readable(listing, photo, side).square
        except ImageRejected:
            continue


def _original(picture: Picture, recipe: Recipe) -> Tile:
    return Tile("the picture", image.resize(picture.square, recipe.side))


def short(text: str) -> str:
    """Show a name; of a long one, how it begins."""
    name = image.shown(text)
    return name if len(name) <= _NAME else f"{name[: _NAME - 1]}…"


def _special(settings: Augmentation, name: str) -> list[str]:
    """Say what holds for one class alone."""
    strength, spared = settings.class_strength.get(name, 1.0), settings.class_off.get(name, "")
    found = [f"strength {strength:g}"] if strength != 1 else []
    return [*found, f"spared {spared}"] if spared else found


def _operation_rows(picture: Picture, recipe: Recipe) -> list[Row]:
    settings = recipe.augmentation
    by_name: dict[str, list[Operation]] = {}
    for operation in augmentation.operations(settings):
        by_name.setdefault(operation.name, []).append(operation)
    rows = []
    for directions in by_name.values():
        tiles = [Tile(caption(one), _alone(one, picture, recipe.side)) for one in directions]
        title, note = _meaning(settings, directions[0], recipe.side)
        rows.append(Row(title, note, picture.path, (_original(picture, recipe), *tiles)))
    return rows


def _mixed(
    rows: Sequence[Row], pictures: Sequence[Picture], recipe: Recipe, seed: int, frozen: bool
) -> list[Row]:
    """Blend the first view of each class with that of the next, as a batch of them would be."""
    settings = recipe.augmentation
    named = {name: getattr(settings, name) for name in ("mixup", "cutmix")}
    title = ", ".join(f"{name} = {value:g}" for name, value in named.items() if value)
    if not title or len(rows) < 2:
        return []
    views = torch.from_numpy(np.stack([row.tiles[1].pixels for row in rows]))
    numbers = np.array([one.number for one in pictures], np.uint64)
    blended, targets = augmentation.mixer(settings, seed)(
        views.permute(0, 3, 1, 2).float(), torch.eye(len(rows)), numbers, 0
    )
    pixels = blended.permute(0, 2, 3, 1).round().byte().numpy()
    shares = targets.diagonal().tolist()
    tiles = [
        Tile(f"{share:.0%} {row.title}", made)
        for share, row, made in zip(shares, rows, pixels, strict=True)
    ]
    note = "each picture of a batch blended with the next"
    if frozen:
        note += "; training blends what the frozen blocks make of them"
    return [Row(title, note, pictures[0].path, (rows[0].tiles[0], *tiles[:_BLENDS]))]


def _alone(operation: Operation, picture: Picture, side: int) -> UInt8[np.ndarray, "side side 3"]:
    (drawn,) = augmentation.draws_of(operation, draws.numbers([picture.hash]))
    return augmentation.augment(picture.square, operation.settings, drawn, side)


def caption(operation: Operation) -> str:
    """Say how far an operation goes, and which way."""
    name, way = operation.name, operation.direction
    if (name, way) in _WAYS:
        return _WAYS[name, way]
    if name == "quarter_turns":
        return f"{way}°"
    if not way:
        return "at full reach"
    sign = "\N{MINUS SIGN}" if way == "least" else "+"
    value = getattr(operation.settings, name)
    if name in ("rotation_degrees", "hue"):
        return f"{sign}{value if name != 'hue' else 360 * value:.3g}°"
    return f"{sign}{value:.0%}"


def _meaning(settings: Augmentation, operation: Operation, side: int) -> tuple[str, str]:
    """Return the setting with its value, and what that means."""
    name = operation.name
    by_policy = settings.policy == "trivial" and name not in _BESIDE_POLICY
    value: Any = getattr(operation.settings if by_policy else settings, name)
    said = _MEANING[name].format(
        value=value,
        degrees=360 * value,
        sigma=_BLUR * side,
        noise=settings.noise_sigma,
        area=settings.erasing_area,
    )
    if by_policy:
        return name, f"{said}, drawn by the policy"
    if name in _SHARES:
        said = f"{said}, in {value:.0%} of the views"
    return f"{name} = {str(value).lower() if isinstance(value, bool) else f'{value:g}'}", said


def _remarks(
    recipe: Recipe,
    each: Mapping[str, Augmentation],
    pictures: Sequence[Picture],
    frozen: bool,
    unreadable: int,
) -> list[str]:
    settings, said = recipe.augmentation, []
    still = [name for name, value in each.items() if not augmentation.operations(value)]
    if len(still) == len(each):
        said.append("Nothing is switched on: every view is the picture itself.")
    elif still:
        names = ", ".join(map(short, still[:5])) + (", …" if len(still) > 5 else "")
        said.append(f"Nothing is switched on for {names}: every view is the picture itself.")
    if settings.policy == "trivial":
        said.append(
            "The policy draws one operation for each view, beside flips, quarter turns and crop."
        )
    said += _looked_at(recipe, list(each))
    idle = [one.name for one in augmentation.operations(settings) if one.name in _OF_COLOURS]
    if idle and all(augmentation.grey(one.square) for one in pictures):
        names = " and ".join(dict.fromkeys(idle))
        said.append(f"These pictures are grey: nothing comes of {names}.")
    if not frozen:
        said.append("Nothing is frozen: views never end, and another seed has others.")
    if unreadable:
        said.append(f"Classes of which no training picture could be read: {unreadable}.")
    return said


def _looked_at(recipe: Recipe, classes: Sequence[str]) -> list[str]:
    """Say what training looks at first, since the sheet shows it whatever comes of that."""
    settings = recipe.augmentation
    looked_at = augmentation.looked_at(settings, classes)
    if not looked_at or recipe.transfer.weights == "random":
        return []
    names = ", ".join(dict.fromkeys(one.name for one in looked_at))
    if settings.insist:
        return [
            f"Training looks first at whether a class's label is changed by {names}, and tells "
            "it; the recipe insists, and all are drawn."
        ]
    return [
        f"Training looks first at whether a class's label is changed by {names}, and leaves out "
        "for that class what changes it. Here all are drawn."
    ]
