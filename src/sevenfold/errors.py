"""Name every way in which a user's request can fail.

```
SevenfoldError            one line of what is wrong, one line of what to do
├── UsageError      2     the command, an option or a recipe is wrong
├── DataError       3     the pictures or their labels cannot be used
│   ├── ImageRejected     one picture; the pictures around it go on
│   └── InputError        what a program gave to an estimator; also a ValueError
├── ModelError      4     a model or run is damaged, foreign or untrusted
├── ResourceError   5     disk, memory, network or a library is missing
└── GateRefused     6     a check said no and nothing was replaced
```

The number is the exit code of the command line. Anything else that escapes is
a bug and exits with 1; an interrupt exits with 130.
"""

import difflib
import errno
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar, Final

_ABOVE: Final = Path(__file__).parent.parent
FROM_SOURCE: Final = _ABOVE.name == "src" and (_ABOVE.parent / "pyproject.toml").is_file()
"""Whether the package runs from a folder of its source, which a wheel leaves behind."""
_DISK_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_EXTRAS: Final = {"elpv_dataset": "demo", "ray": "ray"}  # what is missing otherwise is in `train`


class SevenfoldError(Exception):
    """Carry what is wrong and how to mend it, each in one line.

    Args:
        problem: what is wrong, with the value and the file.
        cure: what the user can do about it.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, problem: str, cure: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.cure = cure

    def __str__(self) -> str:
        return f"{self.problem}\n{self.cure}"

    def __reduce__(self) -> tuple[type["SevenfoldError"], tuple[str, str]]:
        return type(self), (self.problem, self.cure)


class UsageError(SevenfoldError):
    """Report a command, option or recipe that cannot be carried out."""

    exit_code = 2


class DataError(SevenfoldError):
    """Report pictures or labels that cannot be used."""

    exit_code = 3


class ImageRejected(DataError):
    """Report one picture that the gate does not let through."""


class InputError(DataError, ValueError):
    """Report pictures or labels that a program gave; scikit-learn expects a ValueError."""


class ModelError(SevenfoldError):
    """Report a model or run that is damaged, foreign or untrusted."""

    exit_code = 4


class ResourceError(SevenfoldError):
    """Report missing disk, memory, network or library."""

    exit_code = 5


class GateRefused(SevenfoldError):
    """Report a check that said no; what was there before is untouched."""

    exit_code = 6


def lacks(error: BaseException) -> ResourceError | None:
    """Return what the machine lacked where an error says so: a library, memory, disk, or a place.

    Example:
        >>> lacks(ModuleNotFoundError("No module named 'torch'", name="torch")).problem
        'the library torch is not installed'
    """
    if isinstance(error, ModuleNotFoundError):
        top = (error.name or "sevenfold").partition(".")[0]
        if top == "sevenfold":  # which is a bug, as is an error without a name
            return None
        cure = installing(_EXTRAS.get(top, "train"))
        return ResourceError(f"the library {error.name} is not installed", cure)
    # torch.OutOfMemoryError is a RuntimeError, and torch may not be there to ask.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return ResourceError(
            f"not enough memory: {error}".rstrip(": "),
            "close other programs, or use a smaller backbone or fewer --threads",
        )
    if not isinstance(error, OSError):
        return None
    reason = error.strerror or str(error) or type(error).__name__
    problem = f"{error.filename}: {reason}" if error.filename else reason
    if error.errno in _DISK_FULL:
        return ResourceError(
            problem, "free some disk space; `sevenfold cache --clear` frees what the stores hold"
        )
    return ResourceError(problem, "check that the place exists and that you may read and write it")


def homeless() -> ResourceError:
    """Return what a user lacks who has no home folder, as in some containers and services."""
    return ResourceError(
        "this user has no home folder, below which the stores would lie",
        "set SEVENFOLD_CACHE to a folder for them",
    )


def installing(extra: str, *, from_source: bool = FROM_SOURCE) -> str:
    """Return the command that installs what an extra holds, in quotes that every shell knows.

    Args:
        extra: its name in `pyproject.toml`.
        from_source: whether the package runs from a folder of its source.

    Example:
        >>> print(installing("train", from_source=True))
        pip install ".[train]", in the folder of Sevenfold's source
        >>> print(installing("train", from_source=False))
        pip install "sevenfold[train]"
    """
    if from_source:
        return f'pip install ".[{extra}]", in the folder of Sevenfold\'s source'
    return f'pip install "sevenfold[{extra}]"'


def suggestion(word: str, words: Iterable[str]) -> str:
    """Return what to do about a word that is none of those that may be.

    Args:
        word: that was given.
        words: that may be; the first 40 are listed where none is alike.

    Example:
        >>> suggestion("sgb", ["sgd", "adam"]), suggestion("x", ["sgd", "adam"])
        ("did you mean 'sgd'?", 'choose one of sgd, adam')
    """
    known = {one.casefold(): one for one in words}
    near = difflib.get_close_matches(word.casefold(), known, 1)
    if near:
        return f"did you mean {known[near[0]]!r}?"
    return f"choose one of {', '.join(list(known.values())[:40])}"
