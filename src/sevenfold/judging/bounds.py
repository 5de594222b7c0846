"""Bound how much a pruned network loses, by what it is judged by."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int64

from sevenfold import paired


def largest_drops(
    before: Bool[np.ndarray, "pictures"],
    after: Bool[np.ndarray, "pictures"],
    labels: Int64[np.ndarray, "pictures"],
    groups: Sequence[str],
    objective: str,
) -> dict[str, float]:
    """Bound the drop in accuracy, and in the objective where that is another one.

    A certificate asks both to hold, each at 95 %, one-sided: the chance of a wrong one is then
    at most that of the one bound that fails (Berger, 1982, Technometrics 24, 295-300).

    Args:
        before: which pictures the unpruned network answers right.
        after: which pictures the pruned one answers right.
        labels: their classes.
        groups: pictures of one group are not independent.
        objective: `accuracy` or `balanced_accuracy`.

    Returns:
        The bound of each measure by its name, as a fraction.
    """
    found = {"accuracy": _accuracy_drop(before, after, groups)}
    if objective == "balanced_accuracy":
        found[objective] = balanced_drop(before, after, labels, groups)
    return found


def _accuracy_drop(
    before: Bool[np.ndarray, "pictures"], after: Bool[np.ndarray, "pictures"], groups: Sequence[str]
) -> float:
    design = paired.design(before, after, groups)
    return paired.largest_drop(paired.count(before, after), design=design)


def balanced_drop(
    before: Bool[np.ndarray, "pictures"],
    after: Bool[np.ndarray, "pictures"],
    labels: Int64[np.ndarray, "pictures"],
    groups: Sequence[str],
) -> float:
    r"""Bound the drop in the mean recall of the classes that occur, at 95 %, one-sided.

    $$\frac{1}{K} \sum_c d_c
      + \frac{1}{K} \sqrt{\sum_{c, c'} s_{cc'} (u_c - d_c)(u_{c'} - d_{c'})}$$

    with $d_c$ the drop in a class's recall and $u_c$ its own bound, `paired.largest_drop`. Where
    classes are independent $s$ is 1 for $c = c'$ and else 0 (Zou & Donner, 2008, Statistics in
    Medicine 27, 1693-1702, of whose two ends this is one). Ours is that $s$ is 1 as well where a
    group holds pictures of both classes, as if what happens to them were one and the same.

    Example:
        >>> right = np.ones(40, dtype=bool)
        >>> labels = np.array([0] * 30 + [1] * 10)
        >>> round(balanced_drop(right, right, labels, list(map(str, range(40)))), 3)
        0.134
    """
    kinds, kind = np.unique(labels, return_inverse=True)
    member = np.unique(np.array(groups, dtype=np.str_), return_inverse=True)[1]
    drops, widths = np.zeros(len(kinds)), np.zeros(len(kinds))
    for at in range(len(kinds)):
        some = kind == at
        own = [groups[one] for one in np.flatnonzero(some).tolist()]
        drops[at] = before[some].mean() - after[some].mean()
        widths[at] = _accuracy_drop(before[some], after[some], own) - drops[at]
    holds = np.zeros((member.max() + 1, len(kinds)))
    holds[member, kind] = 1
    together = (holds.T @ holds > 0).astype(np.float64)
    return min(1.0, float(drops.mean() + np.sqrt(widths @ together @ widths) / len(kinds)))
