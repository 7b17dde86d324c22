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
        Variance where the expected value is 0 [pixel value²].
    per_value
        Variance per pixel value [pixel value].
    faintest
        Expected value from which on the law is known; what is fainter has that variance [pixel value].
    """

    background: float
    per_value: float = 0.0
    faintest: float = 0.0

    def variance(self, expected: Float[Tensor, " *shape"]) -> Float[Tensor, " *shape"]:
        """Return the variance of every pixel."""
        return self.background + self.per_value * expected.clamp(min=self.faintest)

    @property
    def least(self) -> float:
        """The variance of the faintest pixels."""
        return self.background + self.per_value * self.faintest


def fit_noise_law(observed: Float[Tensor, " *shape"], expected: Float[Tensor, " *shape"]) -> NoiseLaw:
    """Return the law of images whose expected values are known.

    Pixels are gathered in 32 bins of brightness; a line is drawn through the bins' variances by least squares, each
    weighted by its own size, since a variance of as many pixels is known to the same fraction everywhere.
    """
    level, order = expected.flatten().double().sort()
    squares = (observed - expected).flatten()[order].double().square()
    x = torch.stack([part.mean() for part in level.tensor_split(BINS)])
    y = torch.stack([part.mean() for part in squares.tensor_split(BINS)])
    floor = LEAST * squares.mean()
    if float(floor) == 0:
        return NoiseLaw(0.0)
    weight = 1 / y.clamp(min=floor)
    matrix = torch.stack([torch.ones_like(x), x], dim=1) * weight[:, None]
    background, per_value = torch.linalg.lstsq(matrix, (y * weight)[:, None]).solution[:, 0].tolist()
    if per_value < 0 or background + per_value * float(x[0]) <= 0:
        return NoiseLaw(float(squares.mean()))
    return NoiseLaw(background, per_value, float(x[0]))
