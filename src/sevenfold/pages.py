"""Make pages that are one file: escaped templates, pictures inside, styles named by hash."""

import base64
import functools
import hashlib
import io
from collections.abc import Callable
from typing import Any, Final

import jinja2
from PIL import Image

Filter = Callable[..., Any]
_UNDEFINED: Final = {True: jinja2.StrictUndefined, False: jinja2.ChainableUndefined}


def digest(text: str) -> str:
    """Return the SHA-256 by which a content security policy names a style or a script."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def jpeg_uri(picture: Image.Image, quality: int) -> str:
    """Return a picture as a JPEG inside an address.

    Args:
        picture: in RGB.
        quality: Pillow's, 1 to 95.
    """
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


@functools.cache
def template(
    name: str, filters: tuple[tuple[str, Filter], ...] = (), *, strict: bool = True
) -> jinja2.Template:
    """Open a template whose texts are escaped.

    Args:
        name: of the file among the package's templates.
        filters: beside `digest`, by name.
        strict: whether a missing value is an error; otherwise it is empty.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sevenfold"),
        autoescape=True,
        undefined=_UNDEFINED[strict],
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"digest": digest, **dict(filters)}
    return environment.get_template(name)
