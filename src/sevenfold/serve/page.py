"""Render the page on which people drop, pick, paste or take a picture.

It is one file that asks for nothing else; its policy lets run only the style and the
script whose hashes it names.
"""

from typing import Any, NamedTuple, final

from sevenfold import maps
from sevenfold.evaluate import as_chances
from sevenfold.image import shown
from sevenfold.pages import digest, template
from sevenfold.predict import Predictor
from sevenfold.serve.model import can_be_unsure, knows_unlike


@final
class Page(NamedTuple):
    """Hold a page and the Content-Security-Policy that it needs."""

    html: str
    policy: str


def page(predictor: Predictor, *, collects: bool) -> Page:
    """Render the page of a model.

    Args:
        predictor: whose classes the page names.
        collects: whether the server keeps pictures, which the page then says.
    """
    form = template("serve.html.j2", (("shown", shown),))
    facts: dict[str, Any] = {
        "classes": predictor.classes,
        "collects": collects,
        "chances": as_chances(predictor.card),
        "unsure": can_be_unsure(predictor),
        "unlike": knows_unlike(predictor),
        "heat": maps.HEAT.tolist(),
        "veil": maps.VEIL,
    }
    parts: Any = form.make_module(facts)
    style, script = (f"'sha256-{digest(str(part))}'" for part in (parts.css, parts.script))
    policy = (
        f"default-src 'none'; script-src {script}; style-src {style}; img-src blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return Page(form.render(facts), policy)
