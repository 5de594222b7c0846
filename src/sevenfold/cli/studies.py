"""Answer questions by training many times."""

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from sevenfold import terminal
from sevenfold.cli.options import READING, RUNNING, Count, Reading, Running, app, columns, where_of
from sevenfold.terminal import show

Given = Annotated[int | None, Parameter(show_default=False)]


@app.command
def race(
    data: str,
    /,
    *,
    out: Path = Path("runs") / "race",
    practice: Literal["optimization", "imbalance"] = "optimization",
    trials: Given = None,
    seeds: int = 3,
    only: str = "",
    budget: str = "quick",
    recipe: str = "",
    set: tuple[str, ...] = (),
    seed: Count = 0,
    running: Running = RUNNING,
    reading: Reading = READING,
    json: bool = False,
) -> None:
    """Race the optimizers, or the ways to help rare classes, at equal budgets.

    The test pictures stay closed; the same command goes on after a stop.

    Args:
        data: labelled pictures, as for `train`.
        out: the folder of the race.
        practice: what races: optimizers, or methods against imbalance.
        trials: settings tried for each optimizer, 3 without it; methods against imbalance have
            none to try.
        seeds: trainings with fresh seeds for the final figures, at least 2.
        only: names of those that race, such as sgd,adamw,switch.
        budget: quick, normal, thorough, or a time such as 20m: of one training.
        recipe: a TOML file of settings, as `sevenfold recipe` prints them.
        set: one setting that all have in common, such as side=160; may be repeated.
        seed: another number is another draw of everything that is random.
        json: print one JSON object instead of a table.
    """
    from sevenfold import progress
    from sevenfold import recipe as recipes
    from sevenfold.studies import race as study

    searched = study.TRIALS if practice == "optimization" else 0
    asked = study.Asked(
        practice,
        tuple(name.strip() for name in only.split(",") if name.strip()),
        searched if trials is None else trials,
        seeds,
        seed,
    )
    study.check(asked, set)
    facts = study.race(
        data,
        out,
        recipe=recipes.asked(budget, recipe, set),
        asked=asked,
        where=where_of(running),
        columns=columns(reading.columns),
        group_by=reading.group_by,
        small_classes=reading.small_classes,
        progress=progress.Lines(sys.stderr),
    )
    show(facts, terminal.race(facts), as_json=json)
