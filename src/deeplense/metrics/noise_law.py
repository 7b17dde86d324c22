"""The noise of an image as its brightness says: a background and photons. Fitted to images whose truth is known."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from deeplense.core.config import Config

BINS = 32  # of brightness, each of as many pixels
LEAST = 1e-12  # of the mean variance


@dataclass(frozen=True)
class NoiseLaw(Config):
    """Variance of the noise of a pixel, linear in its expected value.

    Parameters
    ----------
    background
        Variance where nothing shines [pixel value²].
    per_value
        Variance per pixel value [pixel value].
    """

    background: float
    per_value: float = 0.0

    def variance(self, expected: Float[Tensor, " *shape"]) -> Float[Tensor, " *shape"]:
        """Return the variance of every pixel; nothing shines less than not at all."""
        return self.background + self.per_value * expected.clamp(min=0)


def fit_noise_law(observed: Float[Tensor, " *shape"], expected: Float[Tensor, " *shape"]) -> NoiseLaw:
    """Return the law of images whose expected values are known.

    Pixels are gathered in 32 bins of brightness; a line is drawn through the bins' variances by least squares, each
    weighted by its own size, since a variance of as many pixels is known to the same fraction everywhere.
    """
    level, order = expected.flatten().double().clamp(min=0).sort()
    squares = (observed - expected).flatten()[order].double().square()
    x = torch.stack([part.mean() for part in level.tensor_split(BINS)])
    y = torch.stack([part.mean() for part in squares.tensor_split(BINS)])
    floor = LEAST * squares.mean()
    if float(floor) == 0:
        return NoiseLaw(0.0)
    weight = 1 / y.clamp(min=floor)
    matrix = torch.stack([torch.ones_like(x), x], dim=1) * weight[:, None]
    background, per_value = torch.linalg.lstsq(matrix, (y * weight)[:, None]).solution[:, 0].tolist()
    if per_value < 0:
        return NoiseLaw(float(squares.mean()))
    return NoiseLaw(max(background, float(floor)), per_value)
