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
RIDGE = 1e-3  # of the covariance, relative: statistics of neighbouring widths are nearly the same
MAP_WIDTH = 2.0
TINY = 1e-12


@DETECTORS.register("physical")
class Physical(Detector):
    """How far the smooth lens fitted to an image, and what it leaves of it, are from those of normal images.

    What varies in the recipe (source, macro lens, exposure) is fitted to each image; where there is nothing else, the
    residual is white noise of variance 1. Compared with normal images are χ² per pixel, at several widths the mean
    square and the largest absolute value of the smoothed residual, and its power spectrum, all as logarithms; and the
    fitted parameters: mass that a smooth lens can take over shows in them. The score is the logarithm of the squared
    Mahalanobis distance, so what fits too well is strange, too.

    Parameters
    ----------
    image_shape
        (C, H, W), H = W.
    recipe
        What the images are of, as `Recipe.as_dict` gives it.
    """

    raw: ClassVar[bool] = True
    physical: ClassVar[bool] = True
    has_p_chi2: ClassVar[bool] = True
    reference: ClassVar[str] = (
        "Ours: residuals of the smooth lens, fitted through the simulator. The excess sought in them is that of "
        "S. Vegetti, L. V. E. Koopmans, MNRAS 392, 945 (2009); the distance: P. C. Mahalanobis, Proc. Natl. Inst. Sci. "
        "India 2, 49 (1936)"
    )
    mean: Tensor
    whitening: Tensor

    def __init__(self, image_shape: tuple[int, int, int], recipe: Mapping[str, Any] | None) -> None:
        super().__init__(image_shape)
        self.fitter = LensFitter(image_shape, recipe)
        self.widths = [width for width in WIDTHS if 8 * width <= image_shape[-1]]
        for name in ("mean", "whitening"):
            self.register_buffer(name, empty_buffer())

    def expect(self, n_images: int) -> None:
        """Learn how many images will come: compiling the fit is worth it for many."""
        self.fitter.expect(n_images)

    def fit(self, normals: Normals, effort: Effort) -> None:
        """Learn how the statistics scatter over normal images."""
        found = torch.cat([self.statistics(part) for part in torch.split(normals.sample(MOST), BATCH)]).double()
        mean = found.mean(0)
        covariance = (found - mean).T @ (found - mean) / max(1, len(found) - 1)
        scale = covariance.diagonal().clamp(min=TINY).sqrt()
        correlation = covariance / scale[:, None] / scale + RIDGE * torch.eye(len(scale)).to(covariance)
        values, vectors = torch.linalg.eigh(correlation)
        self.mean, self.whitening = mean, vectors * values.clamp(min=RIDGE).rsqrt() / scale[:, None]

    def score(self, images: Images) -> Scores:
        """Return the logarithm of the squared distance from normal images."""
        return self._score(self.statistics(images))

    def judge(self, images: Images) -> tuple[Scores, Float[Tensor, " B"]]:
        """Return the scores, and the probability that noise alone gives so large a χ² to the smooth lens fitted.

        It holds for normal noise of known variance: χ² then has as many degrees of freedom as there are more pixels
        than fitted parameters. Skewed noise, a robust fit and a lens that is not the recipe's make it wrong.
        """
        found, pixels = self.statistics(images), images[0].numel()
        chi2 = pixels * torch.exp(found[:, 0].double().cpu())
        return self._score(found), chi2_tail(chi2, pixels - len(self.fitter.lens.names))

    def _score(self, found: Float[Tensor, "B S"]) -> Scores:
        distance = ((found.double() - self.mean) @ self.whitening).square().sum(1)
        return torch.log(distance + TINY)

    def map(self, images: Images) -> Float[Tensor, "B 1 H W"]:
        """Return the smoothed residual, in units of its noise; of several bands the one farthest from 0."""
        smooth = _smoothed(self.fitter.fit(images).residual, MAP_WIDTH)
        strongest = smooth.abs().argmax(1, keepdim=True)
        return smooth.gather(1, strongest)

    def misfit(self, images: Images) -> Float[Tensor, " B"]:
        """Return χ² per pixel of the smooth lens."""
        return self.fitter.fit(images).residual.square().mean((1, 2, 3))

    def statistics(self, images: Images) -> Float[Tensor, "B S"]:
        """Return the statistics of the residuals, and the fitted parameters."""
        fitted = self.fitter.fit(images)
        found = [fitted.residual.square().mean((1, 2, 3))]
        for width in self.widths:
            smooth = _smoothed(fitted.residual, width)
            found += [smooth.square().mean((1, 2, 3)), smooth.abs().amax((1, 2, 3))]
        logarithms = torch.log(torch.cat([torch.stack(found, 1), _spectrum(fitted.residual)], 1) + TINY)
        return torch.cat([logarithms, fitted.theta], 1)


def chi2_tail(chi2: Float[Tensor, " B"], freedom: int) -> Float[Tensor, " B"]:
    """Return the probability of a larger χ² with so many degrees of freedom."""
    tail: Tensor = torch.special.gammaincc(torch.full_like(chi2, freedom / 2), chi2 / 2)
    return tail


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
