"""Say how far a view may differ from its picture, for all classes and for each."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Final

from sevenfold.errors import UsageError, suggestion
from sevenfold.ranges import Choice, Range, Share

Strength = Annotated[float, Range(0, 3)]

OPERATIONS: Final = (
    "flip",
    "flip_vertical",
    "quarter_turns",
    "rotation_degrees",
    "crop",
    "stretch",
    "translation",
    "brightness",
    "contrast",
    "saturation",
    "hue",
    "blur",
    "noise",
    "erasing",
)
"""Settings that are an operation on pixels each."""

WIDE: Final[Mapping[str, Any]] = {
    "rotation_degrees": 30.0,
    "stretch": 1.5,
    "translation": 0.2,
    "brightness": 0.6,
    "contrast": 0.6,
    "saturation": 0.9,
    "hue": 0.1,
    "blur": 1.0,
    "noise": 1.0,
    "erasing": 1.0,
}
_ALWAYS: Final = ("flip", "flip_vertical", "quarter_turns", "crop")
_SMALLEST_CROP: Final = 0.05


@dataclass(frozen=True)
class Augmentation:
    """Say how far a view may differ from its picture.

    The text of a value (`str`) names what a view of one picture depends on; what
    acts on batches or tells classes apart is left out of it.

    Args:
        flip: probability of a mirror image, 0 to 1.
        flip_vertical: probability of an upside-down image, 0 to 1.
        quarter_turns: whether turns by 90, 180 and 270 degrees are drawn.
        rotation_degrees: largest turn to either side, 0 to 180.
        crop: smallest share of the area that a random crop keeps, above 0 to 1.
        stretch: largest change of the aspect ratio, 1 or more (1.33: 3:4 to 4:3).
        translation: largest shift to each side as a share of the side, 0 to 0.5.
        brightness: largest relative change, 0 to 1.
        contrast: largest relative change, 0 to 1.
        saturation: largest relative change, 0 to 1.
        hue: largest turn of all hues to either side, as a share of a turn, 0 to 0.5.
        blur: probability of a Gaussian blur, 0 to 1, of a sigma between 0.1 and
            1.5 pixels at a side of 160 (in proportion elsewhere).
        noise: probability of Gaussian noise, 0 to 1, of a grain of 1/64 of the side.
        noise_sigma: largest standard deviation of the noise as a share of 255, 0 to 1.
        erasing: probability that a rectangle is erased, 0 to 1.
        erasing_area: largest share of the area that is erased, 0.02 to 1.
        erasing_fill: what fills it: `mean` is the view's mean colour, `noise`
            random colours.
        policy: `ranges` draws every operation within its range; `trivial` one
            operation of a fixed wide range for each view, beside flips, quarter
            turns and crop.
        policy_strength: factor on the wide ranges of `trivial`, 0 to 3.
        left_out: operations that `trivial` never draws, separated by commas.
        mixup: both parameters of the Beta that blends two pictures of a batch,
            0 to 10; 0 blends none.
        cutmix: the same for a box of one picture pasted into another; where both
            are on, each picture draws one of them.
        class_strength: a factor on all ranges for each class named, 0 to 3.
        class_views: a factor on the stored views of each class named, 1 to 8.
        class_off: for each class named, the operations that it is spared,
            separated by commas.
        seed: another number draws other views of the same kind.
        for_rare: `alike` treats rare classes as all others; `auto` gives them more
            views and stronger ones if that is measured to help where choices are made.
        label_check: operations that are looked at before training, and left out for
            a class whose label they change: `off` none, `risky` flips, quarter turns,
            large turns and hue, `all` every one.
        insist: keep the operations that the label check would leave out.
    """

    flip: Share = 0.5
    flip_vertical: Share = 0.0
    quarter_turns: bool = False
    rotation_degrees: Annotated[float, Range(0, 180)] = 5.0
    crop: Annotated[float, Range(0, 1, above=True)] = 0.7
    stretch: Annotated[float, Range(1, 4)] = 1.2
    translation: Annotated[float, Range(0, 0.5)] = 0.0
    brightness: Share = 0.15
    contrast: Share = 0.15
    saturation: Share = 0.15
    hue: Annotated[float, Range(0, 0.5)] = 0.0
    blur: Share = 0.0
    noise: Share = 0.0
    noise_sigma: Share = 0.1
    erasing: Share = 0.0
    erasing_area: Annotated[float, Range(0.02, 1)] = 0.2
    erasing_fill: Annotated[str, Choice(("mean", "noise"))] = "mean"
    policy: Annotated[str, Choice(("ranges", "trivial"))] = "ranges"
    policy_strength: Strength = 1.0
    left_out: str = ""
    mixup: Annotated[float, Range(0, 10)] = field(default=0.0, repr=False)
    cutmix: Annotated[float, Range(0, 10)] = field(default=0.0, repr=False)
    class_strength: Mapping[str, Strength] = field(default_factory=dict, repr=False, hash=False)
    class_views: Mapping[str, Annotated[int, Range(1, 8)]] = field(
        default_factory=dict, repr=False, hash=False
    )
    class_off: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)
    seed: Annotated[int, Range(0, 1_000_000)] = field(default=0, repr=False)
    for_rare: Annotated[str, Choice(("alike", "auto"))] = field(default="alike", repr=False)
    label_check: Annotated[str, Choice(("off", "risky", "all"))] = field(
        default="risky", repr=False
    )
    insist: bool = field(default=False, repr=False)

    off: ClassVar["Augmentation"]


Augmentation.off = Augmentation(
    flip=0.0,
    rotation_degrees=0.0,
    crop=1.0,
    stretch=1.0,
    brightness=0.0,
    contrast=0.0,
    saturation=0.0,
    label_check="off",
)


def still(settings: Augmentation) -> bool:
    """Tell whether each view of a picture is the picture as it is.

    Example:
        >>> still(Augmentation.off), still(Augmentation()), still(Augmentation(policy="trivial"))
        (True, False, False)
    """
    return str(settings) == str(Augmentation.off)


def strengthened(settings: Augmentation, factor: float) -> Augmentation:
    """Scale all ranges, within what is legal.

    Probabilities of a flip grow to one half at most: a picture that is always
    flipped is no more varied than one that never is.

    Args:
        settings: the ranges.
        factor: 0 or more; 1 changes nothing, 0 leaves pictures as they are.

    Example:
        >>> strengthened(Augmentation(rotation_degrees=10), 1.5).rotation_degrees
        15.0
        >>> strengthened(Augmentation(), 1) == Augmentation()
        True
    """
    if factor == 1:
        return settings

    def mirrored(share: float) -> float:
        return min(share * factor, max(share, 0.5))

    def scaled(name: str, most: float) -> float:
        return float(min(getattr(settings, name) * factor, most))

    crop = 1.0 - (1.0 - settings.crop) * factor
    return replace(
        settings,
        flip=mirrored(settings.flip),
        flip_vertical=mirrored(settings.flip_vertical),
        quarter_turns=settings.quarter_turns and factor > 0,
        rotation_degrees=scaled("rotation_degrees", 180.0),
        crop=max(crop, min(settings.crop, _SMALLEST_CROP)),
        stretch=min(settings.stretch**factor, 4.0),
        translation=scaled("translation", 0.5),
        brightness=scaled("brightness", 1.0),
        contrast=scaled("contrast", 1.0),
        saturation=scaled("saturation", 1.0),
        hue=scaled("hue", 0.5),
        blur=scaled("blur", 1.0),
        noise=scaled("noise", 1.0),
        erasing=scaled("erasing", 1.0),
        policy_strength=scaled("policy_strength", 3.0)
        if settings.policy == "trivial"
        else settings.policy_strength,
    )


def without(settings: Augmentation, operation: str) -> Augmentation:
    """Switch one operation off, in the ranges and in the policy.

    Args:
        settings: the ranges.
        operation: one of `OPERATIONS`.

    Raises:
        UsageError: there is no such operation.
    """
    _known(operation, OPERATIONS, "augmentation.left_out")
    left_out = settings.left_out
    if settings.policy == "trivial" and operation in WIDE:
        left_out = ",".join(sorted({*named(left_out), operation}))
    off: dict[str, Any] = {operation: getattr(Augmentation.off, operation)}
    return replace(settings, left_out=left_out, **off)


def for_class(settings: Augmentation, name: str) -> Augmentation:
    """Return what holds for the pictures of one class, and tells classes apart no more.

    Raises:
        UsageError: the class is spared an operation that does not exist.

    Example:
        >>> spared = Augmentation(class_off={"left arrow": "flip, rotation_degrees"})
        >>> for_class(spared, "left arrow").flip
        0.0
    """
    found = strengthened(settings, settings.class_strength.get(name, 1.0))
    for operation in named(settings.class_off.get(name, "")):
        _known(operation, OPERATIONS, f"augmentation.class_off.{name}")
        found = without(found, operation)
    return replace(found, class_strength={}, class_views={}, class_off={}, insist=False)


def for_classes(settings: Augmentation, classes: Sequence[str]) -> tuple[Augmentation, ...]:
    """Return what holds for each class.

    Raises:
        UsageError: a setting names a class or an operation that does not exist.
    """
    for table in ("class_strength", "class_views", "class_off"):
        for name in getattr(settings, table):
            _known(name, classes, f"augmentation.{table}")
    for operation in named(settings.left_out):
        _known(operation, OPERATIONS, "augmentation.left_out")
    return tuple(for_class(settings, name) for name in classes)


@lru_cache(maxsize=256)
def choices(settings: Augmentation) -> tuple[Augmentation, ...]:
    """Return what a view of one picture is drawn from: the ranges, or one operation each.

    TrivialAugment (Müller & Hutter, 2021, arXiv 2103.10158) draws one operation and
    one strength for each view, and needs no search. Ours differ in that every range
    is a share of the side, and that what maps grey levels alone (posterize,
    solarize, equalize) gives way to blur, noise, erasing and hue.
    """
    if settings.policy == "ranges":
        return (settings,)
    kept = {name: getattr(settings, name) for name in _ALWAYS}
    base = replace(
        Augmentation.off,
        **kept,
        noise_sigma=settings.noise_sigma,
        erasing_area=settings.erasing_area,
        erasing_fill=settings.erasing_fill,
    )
    left_out = named(settings.left_out)
    pool = [base]
    for name, reach in WIDE.items():
        if name not in left_out:
            alone = replace(Augmentation.off, **{name: reach})
            wide = getattr(strengthened(alone, settings.policy_strength), name)
            pool.append(replace(base, **{name: wide}))
    return tuple(pool)


def named(operations: str) -> tuple[str, ...]:
    """Read a list of names that are separated by commas."""
    return tuple(part.strip() for part in operations.split(",") if part.strip())


def _known(name: str, names: Iterable[str], setting: str) -> None:
    known = list(names)
    if name not in known:
        what = "operation" if known == list(OPERATIONS) else "class"
        raise UsageError(
            f"{setting} names the {what} {name!r}, which does not exist",
            suggestion(name, known),
        )
