"""Say how much goes, and by which ranking."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from sevenfold.errors import UsageError
from sevenfold.practices.pruning.rankings import ACROSS, RANKINGS
from sevenfold.ranges import Choice, Range

CONTROLS = ("all", "dense", "none")


@dataclass(frozen=True)
class Pruning:
    """Say how much of the network is removed, and what goes first.

    Args:
        macs: share of the multiply-accumulates that goes, 0 to below 1; a run that
            `sevenfold prune` made smaller holds how much went.
        max_drop: of the objective on validation, at which cutting ends, 0 to below 1.
        steps: cuts, with a training after each.
        epochs: of each of these trainings, on pixels.
        controls: which networks are trained beside: `dense`, the unpruned one as long, which
            teaches the pruned one where it is the better teacher, `all`, also smaller ones that
            were never pruned (of a pretrained backbone, channels kept at random stand for
            them), or `none`.
        ranking: of channels: `l1`, `l2`, `bn_scale`, `mean_activation`,
            `nonzero`, `taylor`, or `random` as the control.
        across: how scores of different layers compare: `normalised` by their layer's mean,
            `literal` as they are, `ranks` by their place in the layer, so that all layers
            lose about the same share.
        by_cost: scores are divided by what a channel saves of what the target counts.
        blocks: whole residual blocks may go, too.
    """

    macs: Annotated[float, Range(0, 1, below=True)] = 0.0
    max_drop: Annotated[float, Range(0, 1, below=True)] = 0.01
    steps: Annotated[int, Range(1, 100)] = 2
    epochs: Annotated[int, Range(1, 1000)] = 6
    controls: Annotated[str, Choice(CONTROLS)] = "dense"
    ranking: Annotated[str, Choice(RANKINGS)] = "taylor"
    across: Annotated[str, Choice(ACROSS)] = "normalised"
    by_cost: bool = False
    blocks: bool = True

    off: ClassVar["Pruning"]


Pruning.off = Pruning()


def check(settings: Pruning, *, voters: int = 1) -> None:
    """Refuse what cannot be done, before anything is trained.

    Args:
        settings: of the recipe.
        voters: networks that are to be deployed together.

    Raises:
        UsageError: a setting would do nothing, or several networks are to be pruned.
    """
    if settings.macs == 0 and settings != Pruning.off:
        off = vars(Pruning.off)
        name = next(name for name, held in vars(settings).items() if held != off[name])
        raise UsageError(
            f"pruning.{name} = {getattr(settings, name)!r} would do nothing: pruning.macs is 0",
            "set pruning.macs=0.4 or another share that is to go, or leave the setting out",
        )
    if settings.ranking == "random" and settings.across != Pruning.off.across:
        raise UsageError(
            f"pruning.across = {settings.across!r} would do nothing where channels are ranked at "
            "random",
            "leave it out: scores that are drawn compare as they are",
        )
    if settings.macs and voters > 1:
        raise UsageError(
            f"pruning.macs = {settings.macs:g} prunes one network, and {voters} are to vote",
            "set ensembling.distil=true, by which one network learns from the vote",
        )
