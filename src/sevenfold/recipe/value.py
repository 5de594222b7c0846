"""Hold the seven settings as one value."""

from dataclasses import dataclass, field, replace
from typing import Annotated, Final

from sevenfold.errors import UsageError, suggestion
from sevenfold.practices.augmentation import Augmentation
from sevenfold.practices.ensembling import Ensembling, turn
from sevenfold.practices.growth import Growth
from sevenfold.practices.imbalance import Imbalance
from sevenfold.practices.optimization import Optimization
from sevenfold.practices.pruning import Pruning
from sevenfold.practices.transfer import Transfer
from sevenfold.ranges import Choice, Range

PRACTICES: Final = (
    "growth",
    "optimization",
    "imbalance",
    "transfer",
    "augmentation",
    "ensembling",
    "pruning",
)


@dataclass(frozen=True)
class Recipe:
    """Say how to train, and nothing about where.

    Args:
        objective: `accuracy` or `balanced_accuracy`; `auto` is balanced accuracy
            where the largest class has more than 1.5 times the pictures of the
            smallest.
        side: side of the pictures that the network sees, 16 to 1024 pixels.
        effort: factor on the steps and views that are taken where `epochs` and
            `views` are 0, 0.1 to 100.
        epochs: passes over the pictures; 0 takes as many as the data needs.
        batch: pictures in a step, 2 to 4096; at most 32 where the data is small.
        views: stored views of each picture; 0 takes as many as the data needs, and one
            where augmentation is off.
        evidence_minutes: most that the study of the practices after a training may take by
            its own estimate, 0 to 10,000; 0 leaves it out. See `sevenfold evidence`.
        growth: practice 1.
        optimization: practice 2.
        imbalance: practice 3.
        transfer: practice 4.
        augmentation: practice 5.
        ensembling: practice 6.
        pruning: practice 7.

    Example:
        >>> Recipe().without("augmentation").augmentation == Augmentation.off
        True
    """

    objective: Annotated[str, Choice(("auto", "accuracy", "balanced_accuracy"))] = "auto"
    side: Annotated[int, Range(16, 1024)] = 256
    effort: Annotated[float, Range(0.1, 100)] = 1.0
    epochs: Annotated[int, Range(0, 10_000)] = 0
    batch: Annotated[int, Range(2, 4096)] = 64
    views: Annotated[int, Range(0, 1000)] = 0
    evidence_minutes: Annotated[float, Range(0, 10_000)] = 0.0
    growth: Growth = field(default_factory=Growth)
    optimization: Optimization = field(default_factory=Optimization)
    imbalance: Imbalance = field(default_factory=Imbalance)
    transfer: Transfer = field(default_factory=Transfer)
    augmentation: Augmentation = field(default_factory=Augmentation)
    ensembling: Ensembling = field(default_factory=Ensembling)
    pruning: Pruning = field(default_factory=Pruning)

    def without(self, practice: str) -> "Recipe":
        """Return the recipe with one practice off.

        Raises:
            UsageError: there is no such practice.
        """
        if practice not in PRACTICES:
            raise UsageError(f"{practice!r} is no practice", suggestion(practice, PRACTICES))
        off = type(getattr(self, practice)).off
        return replace(self, **{practice: off})

    def member(self, number: int) -> "Recipe":
        """Return the recipe of one member of the vote: with its own cut and backbone.

        Member 0, like a student, has those of `transfer`.

        Args:
            number: of the member, from 0.

        Example:
            >>> recipe = Recipe(ensembling=Ensembling(members=3, cuts=(2,)))
            >>> [recipe.member(number).transfer.trainable_blocks for number in range(3)]
            [3, 2, 3]
        """
        own = self.transfer
        cut = turn(own.trainable_blocks, self.ensembling.cuts, number)
        name = turn(own.backbone, self.ensembling.backbones, number)
        return replace(self, transfer=own.other(name, cut))
