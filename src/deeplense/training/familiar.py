"""Is an image like those that a network learnt from? What one number says of it, and the range of that in training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

WIDENED = 0.5  # of a range, at either end: the images that it is taken from do not hold the extremes


class Judge(Protocol):
    """A network that may say how badly its model of an image fits."""

    def misfit(self, images: Float[Tensor, "B C H W"], /) -> Float[Tensor, " B"] | None:
        """Return χ² per pixel; None where there is no model."""


Statistics = dict[str, Float64[np.ndarray, " B"]]


@torch.no_grad()
def statistics(images: Float[Tensor, "B C H W"], network: Judge) -> Statistics:
    """Return numbers that tell a strange image: its pixel values as stored, and how badly a physical model fits it."""
    values = {"lowest pixel": images.amin((1, 2, 3)), "mean pixel": images.mean((1, 2, 3))}
    values["highest pixel"] = images.amax((1, 2, 3))
    misfit = network.misfit(images)
    if misfit is not None:
        values["chi2 of the smooth lens"] = misfit
    return {name: value.double().cpu().numpy() for name, value in values.items()}


def ranges(values: Statistics) -> dict[str, list[float]]:
    """Return the range of every number over training images, for the run's record."""
    return {name: [float(value.min()), float(value.max())] for name, value in values.items()}


def unfamiliar(values: Statistics, known: Mapping[str, Sequence[float]]) -> list[str | None]:
    """Return for every image the first number that lies far outside its range in training, in words; or None.

    Parameters
    ----------
    values
        Of the images in question.
    known
        Ranges of training images; what has no range is not looked at.
    """
    words: list[str | None] = [None] * len(next(iter(values.values())))
    for name, (low, high) in known.items():
        margin = WIDENED * (high - low)
        for row, value in enumerate(values.get(name, [])):
            if words[row] is None and not low - margin <= value <= high + margin:
                words[row] = f"{name} {value:.3g}, in training {low:.3g} to {high:.3g}"
    return words
