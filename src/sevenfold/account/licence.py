"""Check the licence that a user gives a model."""

import re

from sevenfold.data import shown
from sevenfold.errors import UsageError


def _is_spdx(expression: str) -> bool:
    from license_expression import get_spdx_licensing

    licensing = get_spdx_licensing()
    try:
        parsed = licensing.parse(expression, strict=True)
    except Exception:  # the parser raises almost anything, an IndexError for "()"
        return False
    if parsed is None:
        return False
    unknown = licensing.unknown_license_keys(parsed)
    return all(re.fullmatch(r"LicenseRef-[A-Za-z0-9.-]+", name) for name in unknown)


def check_licence(expression: str) -> None:
    """Refuse a licence that is no SPDX expression; none is fine.

    Raises:
        UsageError: it is not valid.
    """
    if expression and not _is_spdx(expression):
        raise UsageError(
            f"--licence {shown(expression)!r} is not an SPDX licence expression",
            "give one such as Apache-2.0, CC-BY-4.0 or 'MIT OR Apache-2.0'",
        )
