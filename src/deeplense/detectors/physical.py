"""The physical detector: what a smooth lens, fitted to the image, leaves in units of the known noise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from deeplense.data.transforms import Images
from deeplense.detectors.detector import DETECTORS, Detector, Effort, Normals, Scores, empty_buffer
from deeplense.inverse.lens_fitter import LensFitter

WIDTHS = (1.0, 2.0, 4.0, 6.0, 8.0)  # σ of the smoothing [pixels]: from a sharp image of the source to a wide one
BANDS = 6  # of the power spectrum
MOST = 2048  # normal images that the statistics are learnt from: fits are slow, and more would not change them
BATCH = 256
QUANTILES = (0.15866, 0.5, 0.84134)  # those of a normal distribution at -1, 0 and 1 σ
NARROWEST = 0.1  # of the spread in a pixel, in that of the median pixel: an empty corner may have none
RIDGE = 1e-3  # of the covariance, relative: statistics of neighbouring widths are nearly the same
MAP_WIDTH = 2.0
TINY = 1e-12


@DETECTORS.register("physical")
class Physical(Detector):
    """How far the residual of the smooth lens is from noise: χ², largest smoothed excess, power by scale.

    What varies in the recipe (source, macro lens, exposure) is fitted to each image; where there is nothing else, and
    the recipe is right, the residual is white noise of variance 1. What normal images leave in every pixel, middle and
    spread, is taken off all the same: of a survey no recipe is quite right. Statistics of the residual are compared
    with those of normal images: χ² per pixel, at several widths the mean square and the largest absolute value of the
    smoothed residual, and its power spectrum, all as logarithms. The score is the squared Mahalanobis distance, so what
    fits too well is strange, too.

    Parameters
    ----------
    image_shape
        (C, H, W), H = W.
    recipe
        What the images are of, as `Recipe.as_dict` gives it.
    """

    raw: ClassVar[bool] = True
    physical: ClassVar[bool] = True
    reference: ClassVar[str] = (
        "Ours: residuals of the smooth lens, fitted through the simulator. The excess sought in them is that of "
        "S. Vegetti, L. V. E. Koopmans, MNRAS 392, 945 (2009); the distance: P. C. Mahalanobis, Proc. Natl. Inst. Sci. "
        "India 2, 49 (1936)"
    )
    offset: Tensor
    spread: Tensor
    mean: Tensor
    whitening: Tensor

    def __init__(self, image_shape: tuple[int, int, int], recipe: Mapping[str, Any]) -> None:
        super().__init__(image_shape)
        self.fitter = LensFitter(image_shape, recipe)
        self.widths = [width for width in WIDTHS if 8 * width <= image_shape[-1]]
        for name in ("offset", "spread", "mean", "whitening"):
            self.register_buffer(name, empty_buffer())

    def expect(self, n_images: int) -> None:
        """Learn how many images will come: compiling the fit is worth it for many."""
        self.fitter.expect(n_images)

    def fit(self, normals: Normals, effort: Effort) -> None:
        """Learn how residuals and their statistics scatter over normal images."""
        residual = self.fitter.fit(normals.sample(MOST)).residual
        ordered = residual.sort(0).values
        low, self.offset, high = (ordered[round(place * (len(ordered) - 1))] for place in QUANTILES)
        spread = (high - low) / 2
        self.spread = spread.clamp(min=NARROWEST * float(spread.median()) + TINY)
        parts = torch.split((residual - self.offset) / self.spread, BATCH)
        found = torch.cat([self._statistics(part) for part in parts]).double()
        mean = found.mean(0)
        covariance = (found - mean).T @ (found - mean) / max(1, len(found) - 1)
        scale = covariance.diagonal().clamp(min=TINY).sqrt()
        correlation = covariance / scale[:, None] / scale + RIDGE * torch.eye(len(scale)).to(covariance)
        values, vectors = torch.linalg.eigh(correlation)
        self.mean, self.whitening = mean, vectors * values.clamp(min=RIDGE).rsqrt() / scale[:, None]

    def score(self, images: Images) -> Scores:
        """Return the squared distance of the statistics from those of normal images."""
        statistics = self._statistics(self.residual(images)).double()
        return ((statistics - self.mean) @ self.whitening).square().sum(1)

    def map(self, images: Images) -> Float[Tensor, "B 1 H W"]:
        """Return the smoothed residual, in units of its noise; of several bands the one farthest from 0."""
        smooth = _smoothed(self.residual(images), MAP_WIDTH)
        strongest = smooth.abs().argmax(1, keepdim=True)
        return smooth.gather(1, strongest)

    def misfit(self, images: Images) -> Float[Tensor, " B"]:
        """Return χ² per pixel of the smooth lens."""
        return self.fitter.fit(images).residual.square().mean((1, 2, 3))

    def residual(self, images: Images) -> Images:
        """Return what the smooth lens leaves, in units of what normal images leave in the same pixel."""
        return (self.fitter.fit(images).residual - self.offset) / self.spread

    def _statistics(self, residual: Images) -> Float[Tensor, "B S"]:
        found = [residual.square().mean((1, 2, 3))]
        for width in self.widths:
            smooth = _smoothed(residual, width)
            found += [smooth.square().mean((1, 2, 3)), smooth.abs().amax((1, 2, 3))]
        return torch.log(torch.cat([torch.stack(found, 1), _spectrum(residual)], 1) + TINY)


def _smoothed(residual: Images, width: float) -> Images:
    """Return the residual, smoothed by a Gaussian and scaled so that white noise keeps its variance of 1."""
    radius = math.ceil(4 * width)
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1).to(residual) / width) ** 2)
    kernel = (kernel / kernel.square().sum().sqrt()).expand(residual.shape[1], 1, 1, -1)
    bands = residual.shape[1]
    across = F.conv2d(residual, kernel, padding=(0, radius), groups=bands)
    return F.conv2d(across, kernel.transpose(2, 3), padding=(radius, 0), groups=bands)


def _spectrum(residual: Images) -> Float[Tensor, "B K"]:
    """Return the mean power in bands of frequency, of equal width; 1 each for white noise."""
    height, width = residual.shape[-2:]
    power = torch.fft.rfft2(residual).abs().square().mean(1) / (height * width)
    y, x = torch.fft.fftfreq(height).to(power), torch.fft.rfftfreq(width).to(power)
    band = (torch.sqrt(y[:, None] ** 2 + x**2) * 2 * BANDS).long()
    return torch.stack([power[:, band == k].mean(1) for k in range(BANDS)], 1)
