"""Run the program as `python -m sevenfold.cli`."""

import sys

from sevenfold.cli import main

sys.exit(main())
