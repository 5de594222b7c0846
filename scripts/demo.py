"""Install Sevenfold and run the main job on packaged photos of solar cells.

`python3 scripts/demo.py` needs Python 3.11 and nothing else. What follows on the
command line goes to `sevenfold demo`, for example `--budget normal`.
"""

from __future__ import annotations

import sys

from _environment import call, ensure


def main(arguments: list[str]) -> int:
    """Make the environment, run the demonstration and return its exit status."""
    python = ensure(["train", "demo"])
    return call([str(python), "-m", "sevenfold.cli", "demo", *arguments])


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
