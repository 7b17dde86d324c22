"""The page of candidates: the images at the top of the ranking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32

from deeplense.metrics import figures
from deeplense.pages.parts import data_uri, page

BANDS = 3  # of a colour picture


def render(
    run: str, survey: str, rows: Sequence[Mapping[str, Any]], images: Sequence[Float32[np.ndarray, "C H W"]], total: int
) -> str:
    """Return the page, self-contained: it runs no script and loads nothing.

    Parameters
    ----------
    run
        The finder.
    survey
        The catalogue.
    rows
        Of the candidates, the likeliest first.
    images
        One of each.
    total
        Objects in the catalogue.
    """
    shown = [(row, data_uri("image/png", picture(image))) for row, image in zip(rows, images, strict=True)]
    return page("mosaic.html.j2", {"run": run, "survey": survey, "shown": shown, "total": total})


def picture(image: Float32[np.ndarray, "C H W"]) -> bytes:
    """Return an image as PNG: of three bands or more the last three in colour, as catalogues go from blue to red."""
    return figures.image_png(image[-BANDS:][::-1] if len(image) >= BANDS else image[:1])
