"""Hold the program itself and the options that commands share."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final, Literal

from cyclopts import App, Parameter
from cyclopts.validators import Number

from sevenfold.errors import UsageError

if TYPE_CHECKING:
    from sevenfold.job import Request
    from sevenfold.studies.where import Where


def release() -> str:
    """Return the version of the installed package."""
    from importlib.metadata import version

    return version("sevenfold")


app = App(
    name="sevenfold",
    help="A folder of labelled photos in; a small, fast, verified image classifier out. "
    "Begin with `sevenfold train PHOTOS --out RUN`, and open RUN/report.html.",
    version=release,
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
        budget: quick, normal, thorough, or a time such as 20m, which stands for quick, from 15
            minutes for normal, from 90 for thorough, and does not bound the training.
        recipe: a TOML file of settings, as `sevenfold recipe` prints them.
        set: one setting of those that `sevenfold recipe` prints, such as side=160; may be
            repeated.
        seed: another number is another draw of everything that is random.
        threads: processor threads; 0 is one for each core.
        workers: members of a vote that are trained at a time; 0 is as many as the threads have
            room for, 1 one after another, with the same result and less memory.
        device: where to train.
        costs: a TOML file of what each mistake costs, with a table [TRUE CLASS] of ANSWER = COST
            and above them not_sure = COST; answers then cost the least.
        min_recall: share of a class's pictures that must be found, such as crack=0.99; more
            others are then called so; may be repeated.
        licence: an SPDX expression for the model card; without it the card names none.
        replace: put the new run in the place of an older one; its pictures get roles anew.
        json: print one JSON object instead of a summary.
    """

    budget: str = "quick"
    recipe: str = ""
    set: tuple[str, ...] = ()
    seed: Count = 0
    threads: Count = 0
    workers: Count = 0
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    costs: str = ""
    min_recall: tuple[str, ...] = ()
    licence: str = ""
    replace: bool = False
    json: bool = False


@Parameter(name="*")
@dataclass(frozen=True)
class Reading:
    """Say how to read the data.

    Args:
        columns: the names of a table's columns, such as path=file,label=species,group=site.
        group_by: a regular expression whose first brackets take the group from a file's name,
            such as '^(patient[0-9]+)_'.
        small_classes: what to do with classes of too few pictures; where a finished model is
            asked, with classes that it has not learnt.
    """

    columns: str = ""
    group_by: str = ""
    small_classes: Literal["refuse", "drop", "other"] = "refuse"


@Parameter(name="*")
@dataclass(frozen=True)
class Running:
    """Say where the trainings of a study run.

    Args:
        engine: processes of this machine, or a Ray cluster.
        address: of the Ray cluster, such as auto or ray://head:10001.
        gpus_per_trial: GPUs that each training takes on Ray; below 1 several share one.
        workers: trainings at a time; 0 is as many as there is room for.
        threads: processor threads of each training; 0 is one for every eight cores.
        device: where to train.
    """

    engine: Literal["local", "ray"] = "local"
    address: str = ""
    gpus_per_trial: Annotated[float, Parameter(validator=Number(gte=0))] = 0.0
    workers: Count = 0
    threads: Count = 0
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"


TRAINING: Final = Training()
RUNNING: Final = Running()
READING: Final = Reading()


def request_of(training: Training, reading: Reading) -> "Request":
    """Gather what both say into one request."""
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
        workers=training.workers,
        device=training.device,
        costs=training.costs,
        min_recall=training.min_recall,
    )


def where_of(running: Running) -> "Where":
    """Say where trainings run, as studies understand it."""
    from sevenfold.studies.where import Where

    return Where(
        running.engine,
        running.address,
        running.gpus_per_trial,
        running.threads,
        running.workers,
        running.device,
    )


def path_column(text: str) -> str:
    """Read `path=file`, the only column that a list without labels needs.

    Raises:
        UsageError: it names another one.
    """
    named = columns(text)
    if others := sorted(set(named) - {"path"}):
        raise UsageError(
            f"--columns names {others[0]!r}, and nothing but path is read", "write it as path=file"
        )
    return named.get("path", "path")


def columns(text: str, option: str = "--columns") -> dict[str, str]:
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
            f"{option} {text}: {wrong[0] or '='} names no column",
            "write it as path=file,label=species",
        )
    return {role.strip(): name.strip() for role, _, name in pairs}
