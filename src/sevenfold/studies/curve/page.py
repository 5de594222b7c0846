"""Show a learning curve and its forecast on one self-contained page."""

from collections.abc import Mapping
from typing import Any

from sevenfold.pages import template
from sevenfold.report.growth import growth
from sevenfold.report.page import FILTERS, cleaned


def render(facts: Mapping[str, Any]) -> str:
    """Return the page.

    Args:
        facts: the object of `curve --json`. Its texts are cleaned and escaped.
    """
    clean = cleaned(facts)
    return template("curve.html.j2", FILTERS, strict=False).render(
        name=clean["name"], facts=clean, growth=growth({"curve": clean})
    )
