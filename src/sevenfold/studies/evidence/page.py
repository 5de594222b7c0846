"""Show evidence on one self-contained page, and as a table in a notebook."""

from collections.abc import Mapping
from typing import Any, Final

from sevenfold.pages import template
from sevenfold.report.evidence import SCORES, evidence
from sevenfold.report.page import FILTERS as REPORT_FILTERS
from sevenfold.report.page import cleaned
from sevenfold.studies.evidence.effects import Evidence
from sevenfold.studies.evidence.facts import facts


def _sentence(text: str) -> str:
    """Begin a sentence with a capital."""
    return text[:1].upper() + text[1:]


FILTERS: Final = (*REPORT_FILTERS, ("sentence", _sentence))


def render(told: Mapping[str, Any]) -> str:
    """Return the page of a study, complete or not.

    Args:
        told: the content of `evidence.json`. Its texts are cleaned and escaped.
    """
    clean = cleaned(told)
    return template("evidence.html.j2", FILTERS, strict=False).render(
        name=clean["data"], view=evidence(clean), scores=SCORES
    )


def fragment(found: Evidence) -> str:
    """Return the table of the practices as a piece of HTML, for a notebook."""
    clean = cleaned(facts(found))
    return template("evidence.notebook.html.j2", FILTERS, strict=False).render(
        name=clean["data"], view=evidence(clean)
    )
