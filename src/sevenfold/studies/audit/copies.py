"""Group copies: pictures of equal content, and pictures that are all near each other."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

import cv2
import numpy as np
from jaxtyping import Float32, UInt8
from sklearn.neighbors import NearestNeighbors

from sevenfold.progress import Progress
from sevenfold.studies.audit import likeness

LARGEST_SHARE: Final = 0.02
"""Of the data, beyond which a near group tells of the camera and not of copies."""
FEWEST: Final = 10
"""Pictures that a near group may have however small the data is."""
FIXED_CAMERA: Final = "fixed camera? give groups"

_NEIGHBOURS: Final = 8
_FAR: Final = 0.35  # cosine distance of embeddings beyond which nothing is a copy
_FAR_THUMBNAIL: Final = 0.12  # the same of thumbnails
_THUMBNAIL: Final = 12

Group = tuple[int, ...]


@dataclass(frozen=True)
class Near:
    """Hold groups of near duplicates, or why there are none.

    Args:
        groups: of pictures' indices; in each all pairs are close.
        switched_off: the reason; "" where the groups can be used.
    """

    groups: tuple[Group, ...]
    switched_off: str = ""


def exact(hashes: Sequence[str]) -> tuple[Group, ...]:
    """Group pictures of equal content, in order of the first."""
    members: dict[str, list[int]] = defaultdict(list)
    for index, hash_ in enumerate(hashes):
        members[hash_].append(index)
    return tuple(tuple(group) for group in members.values() if len(group) > 1)


def near(
    hashes: Sequence[str],
    embeddings: Float32[np.ndarray, "pictures channels"],
    looks: UInt8[np.ndarray, "pictures s s 3"],
    given: Sequence[str],
    progress: Progress,
) -> Near:
    """Group pictures of which all pairs are near: complete linkage, never a chain.

    Candidates are neighbours by embedding or by thumbnail; `likeness.alike` decides.

    Args:
        hashes: pictures of equal content are compared once.
        embeddings: of length 1.
        looks: what `likeness.small` made of them.
        given: groups; pictures that share one belong together and are not compared.
        progress: is told how many candidates have been compared.
    """
    first = {hash_: index for index, hash_ in reversed(list(enumerate(hashes)))}
    some = np.array(sorted(first.values()), np.int64)
    if len(some) < 2:
        return Near(())
    small = looks[some]
    known: dict[tuple[int, int], bool] = {}

    def alike(a: int, b: int) -> bool:
        pair = (min(a, b), max(a, b))
        if pair not in known:
            known[pair] = likeness.alike(small[pair[0]], small[pair[1]])
        return known[pair]

    candidates = [
        (a, b)
        for a, b in _candidates(embeddings[some], _thumbnails(small))
        if not given[some[a]] or given[some[a]] != given[some[b]]
    ]
    groups = _linked(candidates, len(some), max(FEWEST, LARGEST_SHARE * len(some)), alike, progress)
    if groups is None:
        return Near((), FIXED_CAMERA)
    copies: dict[str, list[int]] = defaultdict(list)
    for index, hash_ in enumerate(hashes):
        copies[hash_].append(index)
    whole = [
        tuple(sorted(index for at in group for index in copies[hashes[some[at]]]))
        for group in groups
    ]
    return Near(tuple(sorted(whole)))


def _thumbnails(
    small: UInt8[np.ndarray, "pictures s s 3"],
) -> Float32[np.ndarray, "pictures values"]:
    """Describe pictures by coarse colours that mirroring and brightness leave alike."""
    size = (_THUMBNAIL, _THUMBNAIL)
    coarse = np.stack([cv2.resize(one, size, interpolation=cv2.INTER_AREA) for one in small])
    coarse = coarse.astype(np.float32)
    rows = (coarse + coarse[:, :, ::-1]).reshape(len(small), -1)
    rows -= rows.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(lengths, 1e-6), np.float32)


def _candidates(*kinds: Float32[np.ndarray, "pictures values"]) -> list[tuple[int, int]]:
    """List pairs worth comparing, the closest first."""
    distance: dict[tuple[int, int], float] = {}
    for rows, far in zip(kinds, (_FAR, _FAR_THUMBNAIL), strict=True):
        count = min(_NEIGHBOURS + 1, len(rows))
        model: Any = NearestNeighbors(n_neighbors=count, metric="euclidean", algorithm="brute")
        lengths, others = model.fit(rows).kneighbors(rows)
        for one, (apart, neighbours) in enumerate(zip(lengths, others, strict=True)):
            for length, other in zip(apart.tolist(), neighbours.tolist(), strict=True):
                cosine = length**2 / 2  # of rows of length 1
                if other != one and cosine <= far:
                    pair = (min(one, other), max(one, other))
                    distance[pair] = min(distance.get(pair, 1.0), cosine / far)
    return sorted(distance, key=lambda pair: (distance[pair], pair))


def _linked(
    candidates: Sequence[tuple[int, int]],
    pictures: int,
    most: float,
    alike: Callable[[int, int], bool],
    progress: Progress,
) -> list[list[int]] | None:
    """Join groups while all pairs across are alike; None once a group is too large."""
    group_of = [[index] for index in range(pictures)]
    for done, (a, b) in enumerate(candidates, 1):
        if done % 100 == 0 or done == len(candidates):
            progress("compare", done, len(candidates))
        one, other = group_of[a], group_of[b]
        if one is other or not alike(a, b):
            continue
        if not all(alike(*pair) for pair in product(one, other)):
            continue
        joined = one + other
        if len(joined) > most:
            return None
        for index in joined:
            group_of[index] = joined
    return list({id(group): group for group in group_of if len(group) > 1}.values())
