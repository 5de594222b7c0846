"""Ask a finished run of `clothing` about pictures of another kind: CIFAR-10's.

The bundle's own detector, whose distance and threshold were chosen without any unknown
picture, on all test pictures of `clothing` and on the first CIFAR-10 test pictures: the
area under the ROC curve, the share of clothing marked as unlike training (false rejects)
and the share of CIFAR-10 marked. The distance that was not taken is measured beside it. With
`--run` about a minute for 1,000 pictures; the run is made by
`sevenfold train clothing --out RUN`.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import results_file
from results_file import Results, span

UNKNOWN = 1000


def vectors(predictor: Any, pictures: list[bytes], threads: int) -> np.ndarray:
    """Return the pooled last features of pictures."""
    from sevenfold import image, unknown

    def one(data: bytes) -> np.ndarray:
        return unknown.pooled(predictor.features(image.decode(data, name="a picture")))

    with ThreadPoolExecutor(threads) as executor:
        return np.stack(list(executor.map(one, pictures)))


def others(data: Path, count: int) -> list[bytes]:
    """Return the first test pictures of CIFAR-10."""
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(data / "cifar10" / "test.parquet", columns=["image"])
    return [row["bytes"] for row in table.slice(0, count)["image"].to_pylist()]


def interval(areas: np.ndarray) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of a mean."""
    drawn = np.random.default_rng(0).integers(0, len(areas), (2000, len(areas)))
    low, high = np.quantile(areas[drawn].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def measure(results: Results, run: Path, data: Path, count: int) -> None:
    """Write one row for each distance."""
    from sevenfold import decisions, predict, unknown

    predictor = predict.load(run, threads=1)
    known = [path.read_bytes() for path in sorted((data / "clothing" / "test").glob("*/*.jpg"))]
    threads = results_file.cores()
    near, far = (
        vectors(predictor, pictures[: count or None], threads)
        for pictures in (known, others(data, count or UNKNOWN))
    )
    detector = predictor.bundle.detector
    for score in unknown.SCORES:
        one = replace(detector, score=score)
        if score == "energy" and not detector.weight.size:
            continue
        here, there = unknown.distances(one, near), unknown.distances(one, far)
        # Of each unknown picture: the share of known ones that lie nearer.
        each = np.array([unknown.area(here, there[at : at + 1]) for at in range(len(there))])
        low, high = interval(each)
        taken = score == detector.score
        limit = detector.threshold if taken else math.nan
        everything = np.ones(len(here), bool)
        rejected = decisions.share(here > limit, everything)
        facts = {
            "taken": taken,
            "auroc": {"value": float(each.mean()), "low": low, "high": high},
            "false_rejects": [rejected.value, rejected.low, rejected.high] if taken else None,
            "marked": float((there > limit).mean()) if taken else None,
            "known": len(near),
            "stand_ins": dict(predictor.card["unknown"]["areas"].get(score, {})),
        }
        results.append(f"clothing against cifar10, {score}", seed=0, n=len(far), **facts)


def summary(results: Results) -> None:
    """Write the table."""
    tables = []
    for row in results.rows():
        area = row["auroc"]
        line: dict[str, object] = {
            "distance": row["key"].rpartition(", ")[2] + " (taken)" * row["taken"],
            "AUROC": f"{area['value']:.3f}",
            "95 % interval": span(area["low"], area["high"]),
        }
        rejected = row["false_rejects"]
        line["clothing marked"] = (
            f"{rejected[0]:.1%} ({rejected[1]:.1%} to {rejected[2]:.1%})" if rejected else ""
        )
        line["CIFAR-10 marked"] = f"{row['marked']:.1%}" if rejected else ""
        stand_ins = row["stand_ins"].items()
        line["on stand-ins"] = ", ".join(f"{way} {value:.3f}" for way, value in stand_ins)
        tables.append(line)
    titles = [
        "Pictures of another kind (CIFAR-10) against test pictures of `clothing`, by the "
        "distance from training in the bundle; it was chosen by stand-ins, not by CIFAR-10."
    ]
    results.summarise(titles, tables)


def main() -> None:
    """Measure what is missing."""
    asked = results_file.parser(__doc__)
    asked.add_argument("--run", type=Path, required=True, help="trained on clothing")
    options = asked.parse_args()
    results = results_file.opened("unknown", options)
    if results.missing("clothing against cifar10, centroid"):
        measure(results, options.run, options.data, 20 if options.smoke else 0)
    summary(results)


if __name__ == "__main__":
    main()
