"""Parse a command, call the function of the same name, print what it returns.

Results go to stdout, all else to stderr. Modules that compute are imported inside
the commands, so that `--help` answers at once.
"""

import io
import os
import sys
import tomllib
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter
from cyclopts.validators import Number

from sevenfold import terminal
from sevenfold.errors import DataError, UsageError
from sevenfold.terminal import explain, plain, show, warn

if TYPE_CHECKING:
    from sevenfold.job import Request

DEMO_RUN = Path("runs") / "demo"


def _release() -> str:
    from importlib.metadata import version

    return version("sevenfold")


app = App(
    name="sevenfold",
    help="A folder of labelled photos in; a small, fast, verified image classifier out.",
    version=_release,
    default_parameter=Parameter(
        negative=(), show_default=lambda value: str(value) if value else None
    ),
    help_format="plaintext",
    result_action="return_value",
    print_error=False,
    exit_on_error=False,
    suppress_keyboard_interrupt=False,
)

Count = Annotated[int, Parameter(validator=Number(gte=0))]


@Parameter(name="*")
@dataclass(frozen=True)
class Training:
    """Say how to train.

    Args:
        budget: quick, normal, thorough, or a time such as 20m.
        recipe: a TOML file of settings, as `sevenfold recipe` prints them.
        set: one setting, such as transfer.backbone=NAME; may be repeated.
        seed: another number is another draw of everything that is random.
        threads: processor threads; 0 is one for each core.
        device: where to train.
        licence: an SPDX expression for the model card; without it the card names none.
        replace: put the new run in the place of an older one.
        json: print one JSON object instead of a summary.
    """

    budget: str = "quick"
    recipe: str = ""
    set: tuple[str, ...] = ()
    seed: Count = 0
    threads: Count = 0
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    licence: str = ""
    replace: bool = False
    json: bool = False


@Parameter(name="*")
@dataclass(frozen=True)
class Reading:
    """Say how to read the data.

    Args:
        columns: the names of a table's columns, such as path=file,label=species,group=site.
        group_by: a regular expression that takes the group from a file's name.
        small_classes: what to do with classes of too few pictures.
    """

    columns: str = ""
    group_by: str = ""
    small_classes: Literal["refuse", "drop", "other"] = "refuse"


def _request(training: Training, reading: Reading) -> "Request":
    from sevenfold.job import Request

    return Request(
        budget=training.budget,
        overrides=training.set,
        recipe=training.recipe,
        seed=training.seed,
        columns=columns(reading.columns),
        group_by=reading.group_by,
        small_classes=reading.small_classes,
        licence=training.licence,
        replace=training.replace,
        threads=training.threads,
        device=training.device,
    )


@app.command
def demo(*, out: Path = DEMO_RUN, training: Training = Training()) -> None:
    """Run the main job on packaged photos of solar cells, for non-commercial use.

    Args:
        out: the folder of the run; without it the last demonstration is replaced.
    """
    from sevenfold import job, progress

    again = replace(training, replace=training.replace or out == DEMO_RUN)
    request = _request(again, Reading())
    facts = job.demo(out, request=request, progress=progress.Lines(sys.stderr))
    show(facts, terminal.run(facts), as_json=training.json)


@app.command
def train(
    data: str,
    /,
    *,
    out: Path,
    training: Training = Training(),
    reading: Reading = Reading(),
) -> None:
    """Train, verify and export a classifier, and write a report.

    Args:
        data: a folder (class/photo.jpg), a CSV or parquet file, elpv or fashion-mnist.
        out: the folder of the run.
    """
    from sevenfold import job, progress

    request = _request(training, reading)
    facts = job.train(data, out, request=request, progress=progress.Lines(sys.stderr))
    show(facts, terminal.run(facts), as_json=training.json)


@app.command
def predict(
    model: Path,
    /,
    *photos: str,
    out: Path = Path(),
    threads: Count = 0,
    json: bool = False,
) -> None:
    """Say what is in pictures. Needs no torch.

    Args:
        model: a run, or a bundle copied out of one.
        photos: pictures, folders of them, or a CSV with a column `path`.
        out: a .csv or .parquet file for the answers; the same command goes on with it.
        threads: processor threads; 0 is one for each core.
        json: print one JSON object instead of lines.
    """
    from sevenfold import answers
    from sevenfold import predict as prediction

    if not photos:
        raise UsageError("no photos are named", "sevenfold predict MODEL PHOTO, or a folder")
    predictor = prediction.load(model, threads=threads)
    found = prediction.sources(photos)
    outcomes = partial(prediction.predict, predictor, threads=threads)
    facts: dict[str, Any] = {
        "schema": "sevenfold.predict/1",
        "out": "",
        "answers": 0,
        "predictions": [],
    }
    if out == Path():
        facts |= _told(outcomes(found), predictor.classes, json)
    else:
        rest = answers.unanswered(out, found, predictor.classes)
        written = answers.write(out, outcomes(rest), predictor.classes)
        failed = [{"path": one.path, "reason": one.reason} for one in written.failures]
        facts |= {"out": str(out), "answers": written.answers, "failed": failed}
    show(facts, [f"answers added to {out}: {facts['answers']:,}"] * (out != Path()), as_json=json)
    for one in facts["failed"]:
        warn(f"no answer for {one['path']}: {one['reason']}")
    if facts["failed"] and not facts["answers"]:
        raise DataError("none of the pictures could be read", "see the reasons above")


def _told(outcomes: Iterable[Any], classes: Sequence[str], as_json: bool) -> dict[str, Any]:
    """Print answers as they come, or keep them for JSON."""
    from sevenfold.answers import Failure

    count, predictions, failed = 0, [], []
    for one in outcomes:
        if isinstance(one, Failure):
            failed.append({"path": one.path, "reason": one.reason})
            continue
        count += 1
        if as_json:
            shares = dict(zip(classes, one.probabilities, strict=True))
            found = {"path": one.path, "label": one.label, "probability": one.probability}
            predictions.append({**found, "probabilities": shares})
        else:
            print(f"{plain(one.path)}\t{plain(one.label)}\t{one.probability:.4f}")
    return {"answers": count, "predictions": predictions, "failed": failed}


@app.command
def evaluate(
    model: Path,
    data: str,
    /,
    *,
    split: Literal["test", "val", "train", "all"] = "test",
    threads: Count = 0,
    reading: Reading = Reading(),
    json: bool = False,
) -> None:
    """Score a model on labelled pictures. Needs no torch.

    Args:
        model: a run, or a bundle copied out of one.
        data: labelled pictures, as for `train`.
        split: which of the data's own roles to score; data without roles is scored whole.
        threads: processor threads; 0 is one for each core.
        json: print one JSON object instead of a summary.
    """
    from sevenfold import job, progress

    facts = job.evaluate(
        model,
        data,
        split=split,
        columns=columns(reading.columns),
        group_by=reading.group_by,
        small_classes=reading.small_classes,
        threads=threads,
        progress=progress.Lines(sys.stderr),
    )
    show(facts, terminal.scores(facts["scores"]), as_json=json)


@app.command
def cache(
    *,
    clear: Annotated[
        list[Literal["all", "pixels", "activations", "fingerprints", "trunks"]] | None,
        Parameter(consume_multiple=(0, 1)),
    ] = None,
    json: bool = False,
) -> None:
    """List what is stored to make the next training faster, or clear it.

    Args:
        clear: delete all stores, or those of one kind.
        json: print one JSON object instead of a table.
    """
    from sevenfold.features import store

    freed = 0.0 if clear is None else store.clear(clear[0] if clear else "all")
    stores = store.caches()
    facts = {
        "schema": "sevenfold.cache/1",
        "path": str(store.home()),
        "freed_megabytes": freed,
        "stores": stores,
    }
    show(facts, terminal.stores(facts), as_json=json)


@app.command
def recipe(
    *,
    budget: str = "quick",
    file: Annotated[str, Parameter("--recipe")] = "",
    set: tuple[str, ...] = (),
    json: bool = False,
) -> None:
    """Print all settings as TOML, each with the source of its value.

    Args:
        budget: quick, normal, thorough, or a time such as 20m.
        file: a TOML file of settings to start from.
        set: one setting, such as transfer.backbone=NAME; may be repeated.
        json: print one JSON object instead of TOML.
    """
    from sevenfold import recipe as recipes

    base = recipes.default(budget)
    base = recipes.read(Path(file), base) if file else base
    text = recipes.to_toml(recipes.apply(base, set))
    facts = {"schema": "sevenfold.recipe/1", "recipe": tomllib.loads(text), "toml": text}
    show(facts, text.splitlines(), as_json=json)


@app.command
def doctor(*, json: bool = False) -> None:
    """Describe the environment for a bug report, and what is wrong with it.

    Args:
        json: print one JSON object instead of lines.
    """
    from sevenfold import doctor as examination

    try:
        from sevenfold.features.store import home

        stores = home()
    except (ImportError, OSError):  # a torch that does not import may be what the report is about
        stores = Path.home()
    facts = examination.facts(stores)
    show(facts, terminal.flat(facts), as_json=json)


@app.command
def version(*, json: bool = False) -> None:
    """Print the version.

    Args:
        json: print one JSON object instead of the number alone.
    """
    show({"schema": "sevenfold.version/1", "version": _release()}, [_release()], as_json=json)


def columns(text: str) -> dict[str, str]:
    """Read `path=file,label=species` into a mapping.

    Example:
        >>> columns("path=file,label=species")
        {'path': 'file', 'label': 'species'}

    Raises:
        UsageError: a part is not of the form name=column.
    """
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    wrong = [role for role, equals, name in pairs if not (role.strip() and equals and name.strip())]
    if wrong:
        raise UsageError(
            f"--columns {text}: {wrong[0] or '='} names no column",
            "write it as path=file,label=species",
        )
    return {role.strip(): name.strip() for role, _, name in pairs}


def main(arguments: Sequence[str] = ()) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: the command line without the program's name; empty: the process's own.
    """
    # Before torch is loaded: idle threads that spin take a core from those that read pictures.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for stream in (sys.stdout, sys.stderr):  # names of files may be no text in this encoding
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app(list(arguments) or sys.argv[1:])
        sys.stdout.flush()
    except KeyboardInterrupt:
        warn("interrupted: the same command goes on from what is saved")
        return 130
    except BrokenPipeError:  # the reader has seen enough, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        return _report(error)
    return 0


def _report(error: Exception) -> int:
    told = explain(error)
    if told.exit_code == 1 or os.environ.get("SEVENFOLD_DEBUG") == "1":
        traceback.print_exception(error)
    warn(f"error: {told.problem}")
    warn(f"  try: {told.cure}")
    return told.exit_code


if __name__ == "__main__":
    sys.exit(main())
