"""Group copies: pictures of equal content, and pictures that are all near each other."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, Final

import cv2
import numpy as np
from jaxtyping import Float32, Int64, UInt8
from sklearn.neighbors import NearestNeighbors

from sevenfold.features.pixels import in_order
from sevenfold.progress import Progress
from sevenfold.studies.audit import likeness

LARGEST_SHARE: Final = 0.02
"""Of the data, beyond which a near group tells of the camera and not of copies."""
FEWEST: Final = 10
"""Pictures that a near group may have however small the data is."""
FIXED_CAMERA: Final = "fixed camera? give groups"

_NEIGHBOURS: Final = 8
_FAR: Final = 0.25  # cosine distance of thumbnails beyond which nothing is a copy
_THUMBNAIL: Final = 12
_AT_ONCE: Final = 256  # pairs that are compared together

Group = tuple[int, ...]
Pair = tuple[int, int]


@dataclass(frozen=True)
class Near:
    """Hold groups of near duplicates, or why there are none.

    Args:
        groups: of pictures' indices; in each all pairs are close.
        chains: groups joined by any close pair, of at most `LARGEST_SHARE`: what must not
            straddle a split.
        switched_off: the reason; "" where the groups can be used.
    """

    groups: tuple[Group, ...]
    chains: tuple[Group, ...] = ()
    switched_off: str = ""


def exact(hashes: Sequence[str]) -> tuple[Group, ...]:
    """Group pictures of equal content, in order of the first."""
    members: dict[str, list[int]] = defaultdict(list)
    for index, hash_ in enumerate(hashes):
        members[hash_].append(index)
    return tuple(tuple(group) for group in members.values() if len(group) > 1)


def near(
    hashes: Sequence[str],
    looks: UInt8[np.ndarray, "pictures s s 3"],
    given: Sequence[str],
    threads: int,
    progress: Progress,
) -> Near:
    """Group pictures of which all pairs are near: complete linkage, never a chain.

    Candidates are neighbours by thumbnail; `likeness.alike` decides.

    Args:
        hashes: pictures of equal content are compared once.
        looks: what `likeness.small` made of them.
        given: groups; pictures that share one belong together and are not compared.
        threads: that compare; the groups do not depend on them.
        progress: is told how many candidates have been compared.
    """
    first = {hash_: index for index, hash_ in reversed(list(enumerate(hashes)))}
    some = np.array(sorted(first.values()), np.int64)
    if len(some) < 2:
        return Near(())
    candidates = [
        (a, b)
        for a, b in _candidates(_thumbnails(looks, some))
        if not given[some[a]] or given[some[a]] != given[some[b]]
    ]
    chunks = [candidates[at : at + _AT_ONCE] for at in range(0, len(candidates), _AT_ONCE)]
    known: dict[Pair, bool] = {}
    for answers in in_order(partial(_compared, looks, some), chunks, threads):
        known |= answers
        progress("compare", len(known), len(candidates))

    def all_alike(pairs: list[Pair]) -> bool:
        new = [pair for pair in pairs if pair not in known]
        for at in range(0, len(new), _AT_ONCE):
            known.update(_compared(looks, some, new[at : at + _AT_ONCE]))
        return all(known[pair] for pair in pairs)

    joined = [pair for pair in candidates if known[pair]]
    most = max(FEWEST, LARGEST_SHARE * len(some))
    groups = _linked(joined, len(some), most, all_alike)
    if groups is None:
        return Near((), switched_off=FIXED_CAMERA)
    copies: dict[str, list[int]] = defaultdict(list)
    for index, hash_ in enumerate(hashes):
        copies[hash_].append(index)

    def whole(groups: Sequence[Sequence[int]]) -> tuple[Group, ...]:
        every = [[index for at in group for index in copies[hashes[some[at]]]] for group in groups]
        return tuple(sorted(tuple(sorted(group)) for group in every))

    return Near(whole(groups), whole(_chained(joined, len(some), most)))


def _compared(
    looks: UInt8[np.ndarray, "pictures s s 3"],
    some: Int64[np.ndarray, "some"],
    pairs: Sequence[Pair],
) -> dict[Pair, bool]:
    first, second = some[np.array(pairs, np.int64).reshape(-1, 2).T]
    found = likeness.alike(looks[first], looks[second]).tolist()
    return dict(zip(pairs, found, strict=True))


def _thumbnails(
    looks: UInt8[np.ndarray, "pictures s s 3"], some: Int64[np.ndarray, "some"]
) -> Float32[np.ndarray, "some values"]:
    """Describe pictures by coarse colours that mirroring and brightness leave alike."""
    size = (_THUMBNAIL, _THUMBNAIL)
    coarse = np.stack([cv2.resize(looks[at], size, interpolation=cv2.INTER_AREA) for at in some])
    coarse = coarse.astype(np.float32)
    rows = (coarse + coarse[:, :, ::-1]).reshape(len(some), -1)
    rows -= rows.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(lengths, 1e-6), np.float32)


def _candidates(rows: Float32[np.ndarray, "pictures values"]) -> list[Pair]:
    """List pairs of neighbours, the closest first."""
    distance: dict[Pair, float] = {}
    count = min(_NEIGHBOURS + 1, len(rows))
    model: Any = NearestNeighbors(n_neighbors=count, metric="euclidean", algorithm="brute")
    lengths, others = model.fit(rows).kneighbors(rows)
    for one, (apart, neighbours) in enumerate(zip(lengths, others, strict=True)):
        for length, other in zip(apart.tolist(), neighbours.tolist(), strict=True):
            cosine = length**2 / 2  # of rows of length 1
            if other != one and cosine <= _FAR:
                distance[min(one, other), max(one, other)] = cosine
    return sorted(distance, key=lambda pair: (distance[pair], pair))


def _linked(
    joined: Sequence[Pair],
    pictures: int,
    most: float,
    all_alike: Callable[[list[Pair]], bool],
) -> list[list[int]] | None:
    """Join groups while all pairs across are alike; None once a group is too large."""
    group_of = [[index] for index in range(pictures)]
    for a, b in joined:
        one, other = group_of[a], group_of[b]
        if one is other:
            continue
        if not all_alike([(min(pair), max(pair)) for pair in product(one, other)]):
            continue
        whole = one + other
        if len(whole) > most:
            return None
        for index in whole:
            group_of[index] = whole
    return list({id(group): group for group in group_of if len(group) > 1}.values())


def _chained(joined: Sequence[Pair], pictures: int, most: float) -> list[list[int]]:
    """Join groups by any close pair, the closest first, while they stay small enough."""
    group_of = [[index] for index in range(pictures)]
    for a, b in joined:
        if group_of[a] is group_of[b] or len(group_of[a]) + len(group_of[b]) > most:
            continue
        whole = group_of[a] + group_of[b]
        for index in whole:
            group_of[index] = whole
    return list({id(group): group for group in group_of if len(group) > 1}.values())
