"""Show what training will see, and check that it leaves labels true."""

import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from sevenfold.cli.options import Count, app, columns
from sevenfold.terminal import show

Some = Annotated[int, Parameter(validator=Number(gte=1, lte=48))]
Many = Annotated[int, Parameter(validator=Number(gte=1, lte=1000))]


@app.command
def preview(
    data: str,
    /,
    *,
    out: Path = Path("runs") / "preview",
    budget: str = "quick",
    recipe: str = "",
    set: tuple[str, ...] = (),
    classes: Some = 12,
    views: Some = 4,
    check: Path | None = None,
    pictures: Many = 40,
    columns_: Annotated[str, Parameter("--columns")] = "",
    seed: Count = 0,
    threads: Count = 0,
    json: bool = False,
) -> None:
    """Draw a contact sheet of what training will see, class by class.

    Args:
        data: labelled pictures, as for `train`.
        out: the folder for preview.png and preview.html.
        budget: show what this budget's training sees: quick, normal, thorough, or a time.
        recipe: a TOML file of settings, as `sevenfold recipe` prints them.
        set: one setting, such as augmentation.rotation_degrees=15; may be repeated.
        classes: most classes to show.
        views: augmented views to show of each picture.
        check: a run or bundle, best one trained without augmentation: which operations
            change the label of which class?
        pictures: most pictures of each class that --check looks at.
        columns_: the names of a table's columns, such as path=file,label=species.
        seed: another number shows other pictures.
        threads: processor threads of the check; 0 is one for each core.
        json: print one JSON object instead of a summary.
    """
    from sevenfold import progress
    from sevenfold import recipe as recipes
    from sevenfold.studies import preview as study

    facts = study.preview(
        data,
        out,
        recipe=recipes.asked(budget, recipe, set),
        columns=columns(columns_),
        classes=classes,
        views=views,
        model=check,
        pictures=pictures,
        seed=seed,
        threads=threads,
        progress=progress.Lines(sys.stderr),
    )
    show(facts, _summary(facts), as_json=json)


def _summary(facts: Mapping[str, Any]) -> Iterator[str]:
    classes = len(facts["classes"])
    yield f"shown          {classes} of {classes + facts['classes_left_out']} classes"
    for remark in facts["remarks"]:
        yield f"note           {remark}"
    if check := facts["check"]:
        yield from _checked(check)
    yield f"sheet          {facts['png']}"
    yield f"page           {facts['html']}"
    yield f"time           {facts['seconds']:.1f} s"


def _checked(check: Mapping[str, Any]) -> Iterator[str]:
    yield f"label check    {check['pictures']:,} pictures answered by {check['model']}"
    if check["blind"]:
        yield f"blind to       {', '.join(check['blind'])}: the model was trained with them"
    flagged = [one for one in check["findings"] if one["verdict"] == "changes the label"]
    for one in flagged:
        yield (
            f"changed label  {one['label']} by {one['operation']} {one['direction']}".rstrip()
            + f": right in {one['clean']:.0%} before and {one['augmented']:.0%} after, "
            + f"mostly taken for {one['into']}"
        )
    few = {one["label"] for one in check["findings"] if one["verdict"] == "too few"}
    classes = {one["label"] for one in check["findings"]}
    if few:
        yield f"label check    too few to judge for {len(few):,} of {len(classes):,} classes"
    if not flagged and (not few or few != classes):
        yield "changed label  none"
    if check["settings"]:
        yield f"leave it out   sevenfold train … {shlex.join(check['settings'])}"
