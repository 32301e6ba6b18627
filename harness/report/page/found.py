"""What a search found as a page: pictures or captions, best first, with scores and times."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Mapping, Sequence

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

SIDE = 320  # pixels of the longer side


def found_page(
    title: str, items: Sequence[Mapping[str, str]], times: str, query_picture: np.ndarray | None = None
) -> str:
    """items: id, score, text ("" where there is none) and picture (a data URI or "").

    query_picture: (H, W, 3) uint8.
    """
    environment = Environment(
        loader=PackageLoader("harness.report.page"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    picture = "" if query_picture is None else uri(query_picture)
    return environment.get_template("found.html.j2").render(
        title=title, items=items, times=times, query_picture=picture
    )


def uri(pixels: np.ndarray) -> str:
    """A picture, (H, W, 3) uint8, made small, as a data URI."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((SIDE, SIDE))
    written = io.BytesIO()
    picture.save(written, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{b64encode(written.getvalue()).decode()}"
