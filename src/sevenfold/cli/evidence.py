"""Measure what each of the seven practices contributes."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sevenfold.cli.options import READING, RUNNING, Count, Reading, Running, app, columns, where_of
from sevenfold.terminal import show, warn

if TYPE_CHECKING:
    from sevenfold.studies.evidence.outcomes import Outcome, Study

_PATIENCE = 10.0  # seconds between two lines where no terminal is


@app.command
def evidence(
    data: str,
    /,
    *,
    out: Path,
    practices: str = "",
    repetitions: int = 6,
    seed: Count = 0,
    budget: str = "quick",
    recipe: str = "",
    set: tuple[str, ...] = (),
    running: Running = RUNNING,
    reading: Reading = READING,
    json: bool = False,
) -> None:
    """Measure what each practice contributes on these pictures, and what it costs.

    The test pictures stay closed; the same command goes on after a stop.

    Args:
        data: labelled pictures, as for `train`.
        out: the folder of the study.
        practices: names of those to measure, such as transfer,augmentation; all without it.
        repetitions: folds, each judged once, 6 to 20; fewer than 6 could claim nothing.
        seed: another number draws other folds, views and seeds of training.
        budget: of each training: quick, normal, thorough, or a time such as 20m.
        recipe: a TOML file of settings, as `sevenfold recipe` prints them.
        set: one setting that all arms have in common, such as side=160; may be repeated.
        json: print one JSON object instead of a table.
    """
    from dataclasses import replace

    from sevenfold import progress
    from sevenfold import recipe as recipes
    from sevenfold.studies import evidence as study

    base = recipes.default(budget)
    cheap = replace(base.transfer, trainable_blocks=study.EVIDENCE_BLOCKS)
    wanted, measured = (
        recipes.apply(recipes.read(Path(recipe), one) if recipe else one, set)
        for one in (base, replace(base, transfer=cheap))
    )
    names = tuple(name.strip() for name in practices.split(",") if name.strip())
    with _watching() as watch:
        facts = study.evidence(
            study.Reading(data, columns(reading.columns), reading.group_by, reading.small_classes),
            out,
            study.Asked(
                measured,
                names,
                repetitions,
                budget,
                seed=seed,
                blocks=wanted.transfer.trainable_blocks,
            ),
            where_of(running),
            progress=progress.Lines(sys.stderr),
            announce=warn,
            watch=watch,
        )
    show(facts, _summary(facts), as_json=json)


def _summary(facts: Mapping[str, Any]) -> Iterator[str]:
    from sevenfold.studies.evidence import table

    yield from table.lines(facts)
    yield f"report         {Path(facts['evidence']) / 'evidence.html'}"


@contextmanager
def _watching() -> Iterator[Callable[["Study", "Sequence[Outcome]", float], None]]:
    """Draw the table anew whenever a trial ends; where no terminal is, print a line at times."""
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    from sevenfold.progress import duration
    from sevenfold.studies.evidence import table
    from sevenfold.studies.evidence.effects import weigh
    from sevenfold.studies.evidence.facts import facts

    drawn = Live(console=Console(stderr=True), auto_refresh=False)
    written = 0.0

    def watch(study: "Study", outcomes: "Sequence[Outcome]", left: float) -> None:
        nonlocal written
        done, all_ = len(outcomes), len(study.arms) * study.repetitions
        line = f"{done} of {all_} arms and repetitions, about {duration(left)} left"
        if sys.stderr.isatty():
            told = facts(weigh(study, outcomes, metrics=(study.objective,)))
            drawn.start()
            drawn.update(Group(table.live(told), Text(line)), refresh=True)
        elif time.monotonic() - written >= _PATIENCE or done == all_:
            written = time.monotonic()
            warn(line)

    try:
        yield watch
    finally:
        drawn.stop()
