"""Say what a network is to be pruned to."""

import math
from dataclasses import dataclass
from typing import Final

from sevenfold.errors import UsageError
from sevenfold.practices.pruning.cost import Cost, Counted

KINDS: Final = ("macs", "parameters", "megabytes", "latency")
WEIGHT_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class Target:
    """Hold what a network is to be pruned to.

    Args:
        kind: `macs` or `parameters` (below 1 the share that remains, else how many),
            `megabytes` of the exported file, or `latency` of the network in
            milliseconds on one thread.
        value: above 0.
    """

    kind: str
    value: float

    @property
    def counted(self) -> Counted:
        """What a cut counts on the way there."""
        return "macs" if self.kind in ("macs", "latency") else "parameters"

    @property
    def relative(self) -> bool:
        """Say whether the value is the share that remains."""
        return self.kind in ("macs", "parameters") and self.value < 1

    def __str__(self) -> str:
        return f"{self.kind}={self.value:g}"


@dataclass(frozen=True, slots=True)
class Aim:
    """Hold a target, and what it leaves of this network.

    Args:
        target: what is counted, and what it is to be.
        share: of that, what remains at the end, below 1; 0 or less is out of reach.
    """

    target: Target
    share: float


def targets(text: str) -> tuple[Target, ...]:
    """Read targets such as `macs=0.6` or `macs=0.6,parameters=0.5`.

    Returns:
        Those first that count multiply-accumulates.

    Raises:
        UsageError: one is none, or is named twice.

    Example:
        >>> targets("latency=4ms")
        (Target(kind='latency', value=4.0),)
    """
    found = [_target(part) for part in text.split(",")]
    kinds = [one.kind for one in found]
    for kind in kinds:
        if kinds.count(kind) > 1:
            raise UsageError(
                f"--target {text!r} names {kind} {kinds.count(kind)} times",
                f"write {kind}= once, with the smallest of its values",
            )
    return tuple(sorted(found, key=lambda one: one.counted))


def _target(text: str) -> Target:
    kind, equals, number = (part.strip() for part in text.partition("="))
    try:
        value = float(number.removesuffix("ms") if kind == "latency" else number)
    except ValueError:
        value = math.nan
    if not equals or kind not in KINDS or not 0 < value < math.inf:
        raise UsageError(
            f"--target {text!r} is no target",
            "write macs=0.6 or parameters=0.5 (the share that remains, or from 1 how many), "
            "megabytes=5 or latency=4 (milliseconds), or several with commas between them",
        )
    return Target(kind, value)


def share(wanted: Target, dense: Cost, *, megabytes: float, latency_ms: float) -> float:
    """Return which share remains of what the target counts.

    Of MACs, of parameters (also for megabytes: the file shrinks by four bytes for each
    parameter that goes, but that a norm's two numbers of a channel are one there; as if all
    norms went, so that the file ends at or below the target), or of the latency.

    Args:
        wanted: the target.
        dense: cost of the network as it is.
        megabytes: of its exported file.
        latency_ms: of the network; not looked at for other targets.

    Returns:
        A share below 1; 0 or less where a file without any weights is larger than the target.

    Raises:
        UsageError: the network is that small already.
    """
    have = {
        "macs": dense.macs,
        "parameters": dense.parameters,
        "megabytes": megabytes,
        "latency": latency_ms,
    }[wanted.kind]
    found = wanted.value if wanted.relative else wanted.value / have
    if wanted.kind == "megabytes":
        weights = sum(one.weights for one in dense.layers.values())
        folded = (dense.parameters - weights) / 2
        gone = (megabytes - wanted.value) * 1e6 / WEIGHT_BYTES + folded
        found = 1 - gone / dense.parameters
    if wanted.value >= have:  # a share is below 1, and below any count
        raise UsageError(
            f"--target {wanted} is no less than the {have:,.4g} that the network has",
            "name a smaller target",
        )
    return found
