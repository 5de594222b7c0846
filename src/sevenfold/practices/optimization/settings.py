"""Say how the weights are moved, and refuse what makes no sense."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

from sevenfold.errors import UsageError, suggestion
from sevenfold.practices.optimization.switch import CRITERIA
from sevenfold.ranges import Choice, Range, Share

NAMES: Final = ("sgd", "adam", "adamw", "rmsprop", "adadelta", "switch")
_NESTEROV: Final = ("sgd", "switch")

_DECAYS: Final = {
    "sgd": 5e-4,  # Zagoruyko & Komodakis 2016, arXiv 1605.07146
    "adam": 0.0,  # what is added to its gradient hardly decays: Loshchilov & Hutter 2017
    "adamw": 0.05,  # Liu et al. 2022, arXiv 2201.03545
    "rmsprop": 1e-5,  # Tan & Le 2019, arXiv 1905.11946
    "adadelta": 0.0,  # Zeiler 2012, arXiv 1212.5701
    "switch": 0.05,  # as AdamW, which it is at first
}


@dataclass(frozen=True)
class Optimization:
    """Say how the weights are moved.

    Args:
        name: `sgd`, `adam`, `adamw`, `rmsprop`, `adadelta`, or `switch` (Adam
            first, then SGD).
        rate: the largest learning rate, above 0; 0 chooses one by a probe of a
            fixed number of steps.
        weight_decay: 0 or more, or -1 for what suits the optimizer; decoupled for
            AdamW and the switch, part of the gradient for the others; never on
            norms and biases.
        momentum: of SGD and RMSprop, and the first of Adam's two, 0 to below 1;
            Adadelta has none.
        nesterov: whether SGD, or the switch's SGD, looks ahead (Nesterov 1983).
        criterion: of the switch, `ratio` or `paper` (Keskar & Socher 2017).
        warmup: share of all steps in which the rate rises, 0 to 1.
        layer_decay: factor of the rate from each block to the one before it, 0 to 1; 0 is
            what suits the start.
        average: share of all steps over which the weights are averaged, 0 to 1;
            0 keeps the last weights.
        smoothing: share of each target that is spread over all classes, 0 to below 1
            (Szegedy et al. 2015, arXiv 1512.00567).
        patience: share of all epochs without improvement after which training
            stops, above 0 to 1.
    """

    name: str = "adamw"
    rate: Annotated[float, Range(0, 10)] = 0.0
    weight_decay: Annotated[float, Range(-1, 10)] = -1.0
    momentum: Annotated[float, Range(0, 1, below=True)] = 0.9
    nesterov: bool = False
    criterion: Annotated[str, Choice(CRITERIA)] = "ratio"
    warmup: Share = 0.1
    layer_decay: Share = 0.0
    average: Share = 0.1
    smoothing: Annotated[float, Range(0, 1, below=True)] = 0.1
    patience: Annotated[float, Range(0, 1, above=True)] = 0.5

    off: ClassVar["Optimization"]


Optimization.off = Optimization(
    name="sgd", weight_decay=5e-4, layer_decay=1.0, average=0.0, smoothing=0.0, patience=1.0
)


def refuse_patience(settings: Optimization, *, validation: bool) -> None:
    """Refuse patience where there are no validation pictures that could end a training.

    Raises:
        UsageError: it would do nothing.
    """
    hasty = settings.patience not in (Optimization.patience, 1.0)  # 1 ends none anyway
    if hasty and not validation:
        raise UsageError(
            f"optimization.patience = {settings.patience:g} would do nothing: no validation "
            "pictures could end a training, since all but test is trained on with under 1,000",
            "leave it out, or train on 1,000 pictures or more",
        )


def check(settings: Optimization) -> None:
    """Refuse an optimizer that is not there, and settings that it would ignore.

    Raises:
        UsageError: the name is unknown, or a setting does not go with it.
    """
    name = settings.name
    if name not in NAMES:
        raise UsageError(f"optimization.name = {name!r} is no optimizer", suggestion(name, NAMES))
    if -1 < settings.weight_decay < 0:
        raise UsageError(
            f"optimization.weight_decay = {settings.weight_decay:g} is negative",
            "give 0 or more, or -1 for what suits the optimizer",
        )
    if settings.nesterov and name not in _NESTEROV:
        raise UsageError(
            f"optimization.nesterov = true does nothing for {name}",
            f"leave it out, or choose optimization.name of {' or '.join(_NESTEROV)}",
        )
    if settings.nesterov and settings.momentum == 0:
        raise UsageError(
            "optimization.nesterov = true needs momentum, and optimization.momentum = 0",
            "give a momentum above 0, such as 0.9",
        )
    if settings.momentum != 0.9 and name == "adadelta":
        raise UsageError(
            f"optimization.momentum = {settings.momentum:g} does nothing for adadelta",
            "leave it at 0.9, or choose another optimization.name",
        )
    if settings.criterion != "ratio" and name != "switch":
        raise UsageError(
            f"optimization.criterion = {settings.criterion!r} does nothing for {name}",
            "leave it out, or choose optimization.name=switch",
        )


def decay(settings: Optimization) -> float:
    """Return the weight decay: the given one, or what suits the optimizer.

    Example:
        >>> decay(Optimization()), decay(Optimization(weight_decay=0.01))
        (0.05, 0.01)
    """
    return _DECAYS[settings.name] if settings.weight_decay < 0 else settings.weight_decay


def layer_decay(settings: Optimization, pretrained: bool) -> float:
    """Return the factor of the rate from block to block: the given one, or what suits the start.

    Pretrained blocks are the more general the lower they lie, and move less (Howard & Ruder
    2018, arXiv 1801.06146). Random ones have as much to learn as the head: at 0.9 the stem of a
    ResNet-20 would learn at 0.9¹¹ = 0.31 of its rate.

    Args:
        settings: a `layer_decay` above 0 is taken as it is.
        pretrained: whether the network starts from trained weights.

    Example:
        >>> layer_decay(Optimization(), True), layer_decay(Optimization(), False)
        (0.9, 1.0)
    """
    return settings.layer_decay or (0.9 if pretrained else 1.0)
