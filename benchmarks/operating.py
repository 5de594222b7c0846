"""Choose thresholds for a recall on validation, and look whether test has it within its interval.

From the predictions of finished runs (`--run NAME=RUN`, as often as you like): for each class
with enough pictures that choices are made by, the weight is chosen as `train --min-recall
CLASS=0.95` does, and its recall on test told with Wilson's interval. Kept is a promise whose
interval reaches 0.95. The default threshold of *not sure* is measured beside it: the share
answered and the error among the answered against that of all. Nothing is trained; `--data` is
not read. Seconds a run.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import results_file
from results_file import Results, span

RECALL = 0.95


def measure(results: Results, name: str, run: Path) -> None:
    """Write one row for each class, and one for the default."""
    from sevenfold import decisions, operating
    from sevenfold.operating import Wish
    from sevenfold.predictions import read_predictions

    found = read_predictions(run / "predictions.csv")
    roles = np.array(found.roles)
    chosen_by = "val" if "val" in roles else "train"
    chosen, test = roles == chosen_by, roles == "test"
    groups, choosing = (
        [group for group, mine in zip(found.groups, role, strict=True) if mine]
        for role in (test, chosen)
    )

    def on_test(wish: Wish) -> dict[str, Any]:
        point = operating.choose(
            wish,
            found.classes,
            found.probabilities[chosen],
            found.labels[chosen],
            choosing if all(choosing) else (),
        )
        told = decisions.measured(
            point,
            found.probabilities[test],
            found.labels[test],
            found.classes,
            groups=groups if all(groups) else (),
            named=tuple(wish.min_recall),
        )
        return {key: held for key, held in told.items() if key != "curve"}

    results.append(f"{name}: default", seed=0, n=int(test.sum()), **on_test(Wish()))
    names = choosing if all(choosing) else [str(at) for at in range(len(choosing))]
    apart = operating.separate(found.labels[chosen], names, len(found.classes))
    for at, label in enumerate(found.classes):
        judged = int((found.labels[chosen] == at).sum())
        if apart[at] < operating.needed(RECALL):
            continue
        told = on_test(Wish({label: RECALL}))
        mine = found.labels[test] == at
        plain = found.probabilities[test][mine].argmax(axis=1) == at
        before = asdict(decisions.share(plain, np.ones(len(plain), bool)))
        facts = {"before": before, "recall": told["recalls"][label], "error": told["error"]}
        results.append(f"{name}: {label}", seed=0, n=int(mine.sum()), chosen_on=judged, **facts)


def summary(results: Results) -> None:
    """Write the table of promises and that of defaults."""
    rows = results.rows()
    promises = [row for row in rows if "recall" in row]
    kept = sum(row["recall"]["high"] >= RECALL for row in promises)
    tables = [
        {
            "data, class": row["key"],
            "chosen on": row["chosen_on"],
            "test pictures": row["n"],
            "recall before": f"{row['before']['value']:.3f}",
            f"recall, {RECALL} asked": f"{row['recall']['value']:.3f}",
            "95 % interval": span(row["recall"]["low"], row["recall"]["high"]),
            "within": "yes" if row["recall"]["high"] >= RECALL else "no",
            "wrong of all": f"{row['error']['value']:.1%}",
        }
        for row in promises
    ]
    titles = [
        f"A recall of {RECALL} asked of one class at a time: {kept} of {len(promises)} classes "
        "have it on test within their interval. The threshold was chosen on validation."
    ]
    for row in rows:
        if "recall" not in row:
            sure, wrong, before = (row[key] for key in ("answered", "error_answered", "error"))
            titles.append(
                f"{row['key'].partition(':')[0]} by default: sure of {sure['value']:.1%} of "
                f"{row['n']:,} test pictures; {wrong['value']:.1%} of these are wrong "
                f"({span(wrong['low'], wrong['high'])}), of all {before['value']:.1%}."
            )
    results.summarise(titles, tables)


def main() -> None:
    """Measure what is missing."""
    asked = results_file.parser(__doc__)
    asked.add_argument("--run", action="append", default=[], metavar="NAME=RUN", required=True)
    options = asked.parse_args()
    runs = dict(text.split("=", 1) for text in options.run)
    results = results_file.opened("operating", options)
    for name, run in runs.items():
        if results.missing(f"{name}: default"):
            measure(results, name, Path(run))
    summary(results)


if __name__ == "__main__":
    main()
