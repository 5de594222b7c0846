"""Give every picture one role, by content, so that it never changes."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Int64

from sevenfold import draws
from sevenfold.data.assemble import Dataset, conflict
from sevenfold.data.manifest import EMPTY, Assigned, Manifest, Row
from sevenfold.data.photos import Photo, Quarantined, Role
from sevenfold.errors import DataError, UsageError
from sevenfold.image import WHOLE, shown

SMALL_DATA = 1000
"""With fewer pictures outside test there is no val: folds choose instead."""
FOLDS: Final = 5
"""Of small data: each picture is judged by the networks of the fold that left it out."""
_FIRST = {"test": 2, "val": 1, "train": 0, "": -1}  # what stays where a group straddles roles


@dataclass(frozen=True)
class Split:
    """Part a data set into roles.

    Args:
        dataset: what is parted.
        train: indexes, ascending, of the pictures that weights are fitted to.
        val: of those that choices are made by; empty with small data.
        test: of those that the final scores are of.
        quarantined: the data set's, and those left out because they would leak.
    """

    dataset: Dataset
    train: Int64[np.ndarray, " train"]
    val: Int64[np.ndarray, " val"]
    test: Int64[np.ndarray, " test"]
    quarantined: tuple[Quarantined, ...] = ()

    def __repr__(self) -> str:
        sizes = f"{len(self.train)} train, {len(self.val)} val, {len(self.test)} test"
        return f"Split({self.dataset.name!r}: {sizes}, {len(self.dataset.classes)} classes)"

    @property
    def judged(self) -> Int64[np.ndarray, " judged"]:
        """Return the pictures that choices are made by: val, or the training pictures.

        Each of the latter is judged by the networks of the fold that left it out.
        """
        return self.val if len(self.val) else self.train

    def folds(self, k: int = FOLDS, seed: int = 0) -> Int64[np.ndarray, " train"]:
        """Part the training pictures into folds, stratified by class, groups whole.

        Groups go, largest first and then by hash, to the fold that has the
        fewest pictures of their class, and of those to the smallest.

        Args:
            k: folds, 2 or more.
            seed: another number gives other folds.

        Returns:
            The fold, 0 to k-1, of each entry of `train`.

        Raises:
            DataError: there are fewer than k groups.
        """
        groups = _groups(self.dataset, self.train.tolist())
        if len(groups) < k:
            raise DataError(
                f"{shown(self.dataset.name)}: {len(groups)} separate groups to train on, "
                f"too few for {k} folds.",
                "Add photos, or name finer groups.",
            )
        in_class = np.zeros((len(self.dataset.classes), k), dtype=np.int64)
        in_fold = np.zeros(k, dtype=np.int64)
        fold_of = np.zeros(len(self.dataset), dtype=np.int64)
        for group in sorted(groups, key=lambda group: (-len(group.members), _turn(group, seed))):
            order = np.lexsort((np.arange(k), in_fold, in_class[group.label]))
            fold = int(order[0])
            in_class[group.label, fold] += len(group.members)
            in_fold[fold] += len(group.members)
            fold_of[group.members] = fold
        answer: Int64[np.ndarray, " train"] = fold_of[self.train]
        return answer

    def fold_of(self, pictures: Int64[np.ndarray, " pictures"]) -> Int64[np.ndarray, " pictures"]:
        """Return which of `FOLDS` each of some training pictures lies in."""
        return np.asarray(self.folds()[np.searchsorted(self.train, pictures)])


def _turn(group: "_Group", seed: int) -> float:
    return draws.number(f"folds {seed} {group.rank}") if seed else group.rank


def split(
    dataset: Dataset,
    *,
    val: float = 0.15,
    test: float = 0.15,
    known: Manifest = EMPTY,
    fewest: int | None = None,
) -> Split:
    """Assign roles by content hashes, whatever the names or the order of the photos.

    Where nothing is known, roles that the data gives stay. Where it gives none,
    the groups of each class and stratum, ranked by hash, fill the quotas of test
    and then of val, at least one group each while one is left for training. Where
    it gives only test, or only val, the other is carved out of training; photos
    without a role belong to training. With fewer than `SMALL_DATA` pictures
    outside test there is no val, and a given one joins training.

    Where a group straddles given roles, the pictures of the lesser role (train,
    then val) are put into quarantine: a given test set never changes.

    Where a manifest is known, its pictures keep their roles. A new picture that
    shares a group or the pixels of a known one follows it; if it bridges two
    roles, it is put into quarantine with its group. All other groups are
    assigned by their hash, uniform in [0, 1): below `test` to test, below
    `test + val` to val where the manifest has a val, else to training.

    Args:
        dataset: what to part.
        val: the share of the pictures that choices are made by, 0 to 1.
        test: the share of the pictures that are kept for the final scores.
        known: the roles given earlier.
        fewest: pictures outside test that have a val; None is `SMALL_DATA`.

    Raises:
        UsageError: the shares are not fractions with a sum below 1.
        DataError: a class has no picture left to train on.
    """
    if min(val, test) < 0 or not val + test < 1:
        raise UsageError(
            f"split: val {val} and test {test} leave nothing to train on.",
            "Give fractions with a sum below 1.",
        )
    if known.rows:
        roles, reasons = _extend(dataset, val, test, known)
    else:
        few = SMALL_DATA if fewest is None else fewest
        roles, reasons = _first(dataset, val, test, few)
        _check_trained(dataset, roles, reasons)
    leaks = tuple(
        Quarantined(dataset.photos[index].path, reason) for index, reason in sorted(reasons.items())
    )
    kept = np.array([index not in reasons for index in range(len(dataset))], dtype=bool)
    named = np.array(roles, dtype="U5")
    train, chosen, held = (
        np.flatnonzero(kept & (named == role)) for role in ("train", "val", "test")
    )
    return Split(dataset, train, chosen, held, (*dataset.quarantined, *leaks))


def manifest_of(parted: Split, *, known: Manifest = EMPTY) -> Manifest:
    """Record a split; what was known stays, new rows come after it."""
    dataset = parted.dataset
    roles: dict[int, Assigned] = {}
    roles.update(dict.fromkeys(parted.train.tolist(), "train"))
    roles.update(dict.fromkeys(parted.val.tolist(), "val"))
    roles.update(dict.fromkeys(parted.test.tolist(), "test"))
    rows = {(row.path, row.hash, row.box): row for row in known.rows}
    for index in sorted(roles):
        photo, hash_ = dataset.photos[index], dataset.hashes[index]
        row = Row(photo.path, hash_, photo.label, roles[index], photo.group, photo.box)
        rows[row.path, row.hash, row.box] = row
    added = [name for name in dataset.classes if name not in known.classes]
    return Manifest(
        known.source or dataset.source.location,
        (*known.classes, *added),
        tuple(rows.values()),
        tuple(dict.fromkeys((*known.quarantined, *parted.quarantined))),
        known.openings,
    )


@dataclass(frozen=True, slots=True)
class _Group:
    members: list[int]
    label: int
    stratum: str
    rank: float


def _groups(dataset: Dataset, indexes: Iterable[int]) -> list[_Group]:
    """Gather the groups among some pictures, by rank.

    The rank is a hash of the smallest hash, because the smallest of many is not
    uniform: large groups would be drawn to the front.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for index in indexes:
        members[dataset.groups[index]].append(index)
    groups = []
    for some in members.values():
        labels = Counter(int(dataset.labels[index]) for index in some)
        strata = Counter(dataset.photos[index].stratum for index in some)
        smallest = min(dataset.hashes[index] for index in some)
        label = max(labels, key=lambda name: (labels[name], -name))
        stratum = min(strata, key=lambda name: (-strata[name], name))
        groups.append(_Group(some, label, stratum, _uniform(smallest)))
    return sorted(groups, key=lambda group: group.rank)


def _uniform(hash_: str) -> float:
    return draws.number(f"role {hash_}") / 2.0**64


def _first(
    dataset: Dataset, val: float, test: float, fewest: int
) -> tuple[list[Role], dict[int, str]]:
    roles: list[Role] = [photo.role for photo in dataset.photos]
    reasons: dict[int, str] = {}
    given = set(roles)
    groups = _groups(dataset, range(len(dataset)))
    _settle(dataset, groups, roles, reasons, "test")
    pool = [group for group in groups if {roles[i] for i in group.members} <= {"", "train"}]
    base = _pictures(pool)
    if "test" not in given:
        # Where folds will judge, each class has to lie in two of them.
        kept = 2 if (1 - test) * len(dataset) < fewest else 1
        pool = _carve(pool, base, roles, "test", test, kept)
    outside = sum(role != "test" and i not in reasons for i, role in enumerate(roles))
    if outside < fewest:
        roles = ["test" if role == "test" else "train" for role in roles]
        return roles, reasons
    _settle(dataset, groups, roles, reasons, "val")
    if "val" not in given:
        _carve(pool, base, roles, "val", val, 1)
    return [role or "train" for role in roles], reasons


def _settle(
    dataset: Dataset,
    groups: Sequence[_Group],
    roles: list[Role],
    reasons: dict[int, str],
    wanted: Role,
) -> None:
    """Where a group holds the wanted role, give it to those without and quarantine the rest."""
    for group in groups:
        if not any(roles[index] == wanted for index in group.members):
            continue
        for index in group.members:
            if roles[index] == "":
                roles[index] = wanted
            elif _FIRST[roles[index]] < _FIRST[wanted]:
                reasons[index] = f"leak: its group or an exact copy is in {wanted}"


def _pictures(groups: Iterable[_Group]) -> Counter[tuple[int, str]]:
    cells: Counter[tuple[int, str]] = Counter()
    for group in groups:
        cells[group.label, group.stratum] += len(group.members)
    return cells


def _carve(
    pool: Sequence[_Group],
    base: Mapping[tuple[int, str], int],
    roles: list[Role],
    role: Assigned,
    share: float,
    kept: int,
) -> list[_Group]:
    """Move groups by rank into a role until the quota of each class is met; return the rest.

    So many groups of each class are kept back, where it has more. The quota runs on over a
    class's strata, so that rounding in small strata evens out.
    """
    if share == 0:
        return list(pool)
    cells: dict[int, dict[str, list[_Group]]] = defaultdict(lambda: defaultdict(list))
    for group in pool:
        cells[group.label][group.stratum].append(group)
    taken: set[int] = set()
    for label, strata in cells.items():
        everything = [group for stratum in sorted(strata) for group in strata[stratum]]
        quota = 0.0
        chosen: list[_Group] = []
        filled = 0
        for stratum in sorted(strata):
            quota += share * base[label, stratum]
            for group in strata[stratum]:
                size = len(group.members)
                nearer = abs(filled + size - quota) < abs(filled - quota)
                if nearer and len(chosen) < len(everything) - kept:
                    chosen.append(group)
                    filled += size
        if not chosen and len(everything) > 1:
            chosen = [min(everything, key=lambda group: (len(group.members), group.rank))]
        for group in chosen:
            taken.add(id(group))
            for index in group.members:
                roles[index] = role
    return [group for group in pool if id(group) not in taken]


def _extend(
    dataset: Dataset, val: float, test: float, known: Manifest
) -> tuple[list[Role], dict[int, str]]:
    links: dict[tuple[str, str], set[Role]] = defaultdict(set)
    labels: dict[str, set[str]] = defaultdict(set)
    rows = {(row.path, row.hash) for row in known.rows}
    for row in known.rows:
        labels[row.hash].add(row.label)
        for link in _links(row, row.hash):
            links[link].add(row.role)
    has_val = any(row.role == "val" for row in known.rows)
    roles: list[Role] = [""] * len(dataset)
    reasons: dict[int, str] = {}
    for group in _groups(dataset, range(len(dataset))):
        new = []
        found: set[Role] = set()
        for index in group.members:
            photo, hash_ = dataset.photos[index], dataset.hashes[index]
            found.update(*(links.get(link, set()) for link in _links(photo, hash_)))
            if (photo.path, hash_) in rows:
                (roles[index],) = links["hash", hash_]
            elif hash_ in labels and labels[hash_] != {photo.label}:
                reasons[index] = conflict(labels[hash_] | {photo.label})
            else:
                new.append(index)
                found.add("train" if photo.role == "val" and not has_val else photo.role)
        found.discard("")
        if len(found) > 1:
            reasons |= dict.fromkeys(new, f"leak: it bridges {' and '.join(sorted(found))}")
            continue
        role = found.pop() if found else _by_threshold(group.rank, val if has_val else 0.0, test)
        for index in new:
            roles[index] = role
    return roles, reasons


def _links(photo: Photo | Row, hash_: str) -> list[tuple[str, str]]:
    """Return what ties a picture to others: pixels, a given group, a file cut into boxes."""
    links = [("hash", hash_)]
    links += [("group", photo.group)] if photo.group else []
    links += [("path", photo.path)] if photo.box != WHOLE else []
    return links


def _by_threshold(rank: float, val: float, test: float) -> Role:
    if rank < test:
        return "test"
    return "val" if rank < test + val else "train"


def _check_trained(dataset: Dataset, roles: Sequence[Role], reasons: Mapping[int, str]) -> None:
    trained = {
        int(dataset.labels[index])
        for index, role in enumerate(roles)
        if role == "train" and index not in reasons
    }
    for label, name in enumerate(dataset.classes):
        if label not in trained:
            raise DataError(
                f"{shown(dataset.name)}: the class `{name}` has no picture to train on "
                f"({len(reasons)} pictures leak between roles).",
                "Remove the copies from test and val, or add photos to training.",
            )
