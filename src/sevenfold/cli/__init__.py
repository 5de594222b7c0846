"""Parse a command, call the function of the same name, print what it returns.

Results go to stdout, all else to stderr. Modules that compute are imported inside
the commands, so that `--help` answers at once.
"""

import io
import os
import sys
import traceback
from collections.abc import Sequence

from sevenfold.cli import audit as _audit  # noqa: F401
from sevenfold.cli import bench as _bench  # noqa: F401
from sevenfold.cli import commands as _commands  # noqa: F401  its commands are registered so
from sevenfold.cli import compare as _compare  # noqa: F401
from sevenfold.cli import curve as _curve  # noqa: F401
from sevenfold.cli import evidence as _evidence  # noqa: F401
from sevenfold.cli import exporting as _exporting  # noqa: F401
from sevenfold.cli import preview as _preview  # noqa: F401
from sevenfold.cli import remaking as _remaking  # noqa: F401
from sevenfold.cli import report as _report_command  # noqa: F401
from sevenfold.cli import serve as _serve  # noqa: F401
from sevenfold.cli import studies as _studies  # noqa: F401
from sevenfold.cli import suggest as _suggest  # noqa: F401
from sevenfold.cli import update as _update  # noqa: F401
from sevenfold.cli.options import app, columns
from sevenfold.terminal import explain, warn

__all__ = ["app", "columns", "main"]


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
