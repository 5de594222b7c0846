"""Write answers to CSV or parquet: streamed, resumable, safe to open in a spreadsheet.

A row is written as soon as its answer is there. `unanswered` drops the sources
that a file already answers, so an interrupted command goes on where it stopped:

```
rest = unanswered(out, sources, classes, predictor.bundle.digest)
write(out, predict(predictor, rest, ...), classes)
```
"""

import csv
import hashlib
import io
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sevenfold.errors import ResourceError, UsageError, installing

Source = tuple[str, Callable[[], bytes]]
"""The path of a picture as shown to people, and what reads its bytes."""

ROWS_PER_PART = 4096
MARKS = ("sure", "unlike")
_RISKY = ("=", "+", "-", "@", "\t", "\r", "\n")


@dataclass(frozen=True, slots=True)
class Answer:
    """Hold what the model says of one picture.

    Args:
        path: the picture, as shown to people.
        label: the class that the model's operating point answers.
        probability: its probability, 0 to 1.
        probabilities: of all classes, in the order of the model's classes.
        sure: False below the threshold of the operating point: *not sure*.
        unlike: whether the picture is unlike anything trained on.
        distance: how far it is from training; NaN where the bundle knows no distance.
        map: file that shows where the evidence for the label lies, or "".
        model: digest of the bundle that answers, or "".
    """

    path: str
    label: str
    probability: float
    probabilities: tuple[float, ...]
    sure: bool = True
    unlike: bool = False
    distance: float = math.nan
    map: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """Hold why one picture has no answer.

    Args:
        path: of the picture.
        reason: in one line.
        of_model: whether the model is to blame, and not the picture.
    """

    path: str
    reason: str
    of_model: bool = False


@dataclass(frozen=True, slots=True)
class Written:
    """Count the answers that were added to a file and name the failures."""

    answers: int
    failures: tuple[Failure, ...]


def guarded(cell: str) -> str:
    """Quote a CSV cell that a spreadsheet would run as a formula.

    Quotes that are there already gain one more, so that `bare` undoes it exactly.

    Example:
        >>> guarded("=1+1"), guarded("'=1+1"), guarded("cat")
        ("'=1+1", "''=1+1", 'cat')
    """
    return f"'{cell}" if cell.lstrip("'").startswith(_RISKY) else cell


def bare(cell: str) -> str:
    """Undo `guarded`.

    Example:
        >>> bare("'=1+1"), bare("'tis")
        ('=1+1', "'tis")
    """
    quoted = cell.startswith("'") and cell.lstrip("'").startswith(_RISKY)
    return cell[1:] if quoted else cell


def write(path: Path, outcomes: Iterable[Answer | Failure], classes: Sequence[str]) -> Written:
    """Write answers in the format that the suffix names.

    Raises:
        UsageError: the suffix is neither `.csv` nor `.parquet`, or as `write_csv`.
        ResourceError: as `write_csv` and `write_parquet`.
    """
    return (write_parquet if _is_parquet(path) else write_csv)(path, outcomes, classes)


def unanswered(
    path: Path, sources: Iterable[Source], classes: Sequence[str], model: str = ""
) -> Iterator[Source]:
    """Drop the sources that the file at `path` answers already.

    Keeps 16 bytes of hash for each row of the file, whatever the length of its path.

    Args:
        path: of the file; there may be none.
        sources: that are to be answered.
        classes: of the model.
        model: digest of the bundle that is to answer; "" takes the answers of any.

    Raises:
        UsageError: the file exists and is not one of answers for these classes, or another
            model gave them.
    """
    rows = _parquet_rows(path, classes) if _is_parquet(path) else _csv_rows(path, classes)
    done = set()
    for row in rows:
        if model and row.path and row.model != model:
            raise UsageError(
                f"{path} holds answers of another model, or of this one before it changed",
                "choose another name, or remove the file",
            )
        done.add(_key(row.path))
    return (source for source in sources if _key(source[0]) not in done)


def write_csv(path: Path, outcomes: Iterable[Answer | Failure], classes: Sequence[str]) -> Written:
    """Append answers to a CSV file: `path,label,probability`, `p:CLASS`, `sure,unlike,model`.

    `sure` is `no` below the operating point's threshold, `unlike` is `yes` for a picture
    unlike anything trained on, `model` the digest of the bundle that answered.

    Rows that are complete in an existing file stay; a last line that a kill tore
    is cut off. Failures have no row, so that a later call tries them again.

    Raises:
        UsageError: the file exists and is not one of answers for these classes.
        ResourceError: the file cannot be written.
    """
    count, failures = 0, []
    end = max((row.end for row in _csv_rows(path, classes)), default=0)
    with _writing(path):
        path.open("ab").close()
        os.truncate(path, end)
        with path.open("a", encoding="utf-8", errors="backslashreplace", newline="") as file:
            file.write("" if end else _header(classes))
            writer = csv.writer(file)  # ends rows in \r\n, else it leaves a lone \r unquoted
            for outcome in outcomes:
                if isinstance(outcome, Failure):
                    failures.append(outcome)
                    continue
                names = (guarded(outcome.path), guarded(outcome.label))
                numbers = (outcome.probability, *outcome.probabilities)
                marks = (_word(outcome.sure), _word(outcome.unlike))
                writer.writerow((*names, *map(repr, numbers), *marks, outcome.model))
                file.flush()
                count += 1
    return Written(count, tuple(failures))


def write_parquet(
    path: Path, outcomes: Iterable[Answer | Failure], classes: Sequence[str]
) -> Written:
    """Add answers to a parquet file with the columns of `write_csv`.

    Rows go to numbered part files in a folder beside `path` and are joined at
    the end. From the first of them on an existing file is the first part. So a file
    at `path` is always whole, and where there is none the parts hold all rows.

    Raises:
        UsageError: the file exists and is not one of answers for these classes.
        ResourceError: pyarrow is missing, or the file cannot be written.
    """
    _arrow()
    count, failures, rows = 0, [], list[Answer]()
    for _ in _parquet_rows(path, classes):  # refuses a foreign file before it is moved
        break
    parts = _parts(path)
    with _writing(path):
        try:
            for outcome in outcomes:
                if isinstance(outcome, Failure):
                    failures.append(outcome)
                    continue
                rows.append(outcome)
                count += 1
                if len(rows) == ROWS_PER_PART:
                    _save_part(path, rows, classes)
                    rows = []
        finally:  # an interrupt keeps what is answered
            if rows:
                _save_part(path, rows, classes)
        if not path.exists():
            parts.mkdir(exist_ok=True)
            _join(parts, path, classes)
        _clear(parts)
    return Written(count, tuple(failures))


def _is_parquet(path: Path) -> bool:
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise UsageError(
            f"cannot tell the format of {path} from its name",
            "end the name of the output in .csv or .parquet",
        )
    return path.suffix.lower() == ".parquet"


def _key(path: str) -> bytes:
    return hashlib.blake2b(path.encode("utf-8", "backslashreplace"), digest_size=16).digest()


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise ResourceError(
            f"cannot write {path}: {error.strerror or error}",
            "free some disk space or choose another place, then run the same command again",
        ) from error


def _foreign(path: Path) -> UsageError:
    return UsageError(
        f"{path} exists and does not hold answers for this model's classes",
        "choose another name, or remove the file",
    )


def _columns(classes: Sequence[str]) -> list[str]:
    return ["path", "label", "probability", *(f"p:{name}" for name in classes), *MARKS, "model"]


def _word(mark: bool) -> str:
    return "yes" if mark else "no"


def _header(classes: Sequence[str]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text).writerow(_columns(classes))
    return text.getvalue()


@dataclass(frozen=True, slots=True)
class _Row:
    """Hold what a complete row is of, who answered it, and where it ends in bytes."""

    path: str
    model: str
    end: int = 0


def _csv_rows(path: Path, classes: Sequence[str]) -> Iterator[_Row]:
    # The header counts as a row without a path, so that an empty table has an end too.
    header, width, end = _header(classes).encode(), len(_columns(classes)), 0
    if not path.exists():
        return
    try:
        with path.open("rb") as file:
            found = file.read(len(header))
            if found != header:
                if header.startswith(found):  # a kill tore the header itself
                    return
                raise _foreign(path)
            end = len(header)
            yield _Row("", "", end)
            last = b"\n"

            def lines() -> Iterator[str]:
                nonlocal end, last
                for last in file:
                    end += len(last)
                    yield last.decode("utf-8", "replace")

            for row in csv.reader(lines()):
                whole = len(row) == width and last.endswith(b"\n")
                if whole:
                    yield _Row(bare(row[0]), row[-1], end)
                elif file.read(1):
                    raise _foreign(path)
    except (OSError, csv.Error) as error:
        raise _foreign(path) from error


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ResourceError(
            "parquet needs the library pyarrow, which is not installed",
            f"{installing('train')}; or name a .csv file",
        ) from error
    return pyarrow, pyarrow.parquet


def _parts(path: Path) -> Path:
    return path.with_name(f"{path.name}.parts")


def _clear(parts: Path) -> None:
    if parts.is_dir():
        for part in (*parts.glob("*.parquet"), *parts.glob("*.tmp")):
            part.unlink()
        parts.rmdir()


def _parquet_rows(path: Path, classes: Sequence[str]) -> Iterator[_Row]:
    arrow, parquet = _arrow()
    files = [path] if path.exists() else sorted(_parts(path).glob("*.parquet"))
    for name in files:
        try:
            with parquet.ParquetFile(name) as file:
                if file.schema_arrow.names != _columns(classes):
                    raise _foreign(path)
                for batch in file.iter_batches(columns=["path", "model"]):
                    yield from map(_Row, *(column.to_pylist() for column in batch.columns))
        except (OSError, arrow.ArrowInvalid) as error:
            raise _foreign(path) from error


def _save_part(path: Path, rows: Sequence[Answer], classes: Sequence[str]) -> None:
    arrow, parquet = _arrow()
    parts = _parts(path)
    if path.exists():
        _clear(parts)
        parts.mkdir()
        os.replace(path, parts / "000000.parquet")
    parts.mkdir(exist_ok=True)
    columns = [
        arrow.array([row.path for row in rows], arrow.string()),
        arrow.array([row.label for row in rows], arrow.string()),
        arrow.array([row.probability for row in rows], arrow.float64()),
        *(arrow.array(column) for column in zip(*(r.probabilities for r in rows), strict=True)),
        *(arrow.array([getattr(row, mark) for row in rows], arrow.bool_()) for mark in MARKS),
        arrow.array([row.model for row in rows], arrow.string()),
    ]
    number = 1 + max((int(part.stem) for part in parts.glob("*.parquet")), default=-1)
    unfinished = parts / "part.tmp"
    parquet.write_table(arrow.table(columns, names=_columns(classes)), unfinished)
    os.replace(unfinished, parts / f"{number:06d}.parquet")


def _join(parts: Path, path: Path, classes: Sequence[str]) -> None:
    arrow, parquet = _arrow()
    texts = [("path", arrow.string()), ("label", arrow.string())]
    numbers = [(name, arrow.float64()) for name in _columns(classes)[2 : -len(MARKS) - 1]]
    marks = [*((name, arrow.bool_()) for name in MARKS), ("model", arrow.string())]
    unfinished = parts / "joined.tmp"
    with parquet.ParquetWriter(unfinished, arrow.schema(texts + numbers + marks)) as writer:
        for part in sorted(parts.glob("*.parquet")):
            with parquet.ParquetFile(part) as file:
                for group in range(file.num_row_groups):
                    writer.write_table(file.read_row_group(group))
    with unfinished.open("rb+") as file:  # the parts are removed next: power may be lost then
        os.fsync(file.fileno())
    os.replace(unfinished, path)
