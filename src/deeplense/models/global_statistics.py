"""Nine numbers of an image as a whole, and no network: the floor that any classifier has to beat."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from deeplense.models.backbone import MODELS, Backbone, ModelSource

STATISTICS = (
    "minimum",
    "maximum",
    "mean",
    "standard deviation",
    "skewness",
    "excess kurtosis",
    "flux of bright pixels",
    "fraction of pixels above half the maximum",
    "half-light radius",
)
BRIGHT = 3.0  # robust standard deviations above the background
NORMAL_MAD = 1.4826  # standard deviation of a normal distribution, in median absolute deviations
SHRINKAGE = 0.01  # towards uncorrelated statistics: some pairs are almost one and the same


@MODELS.register("global_statistics")
class GlobalStatistics(Backbone):
    """Nine global statistics, whitened by what they are over the training images; with a linear head a discriminant.

    Nothing in it is learnt by gradients: mean and covariance are those of all images seen in training. Bands are
    averaged. The background is the median; bright pixels are more than 3 robust standard deviations above it. Of them
    are the flux and the half-light radius, which is taken about their centroid.

    Parameters
    ----------
    image_shape
        (C, H, W); any size.
    """

    source: ClassVar[ModelSource] = "deeplense"
    raw: ClassVar[bool] = True
    n_seen: Tensor
    running_mean: Tensor
    moments: Tensor

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        n = len(STATISTICS)
        for name, value in {
            "n_seen": torch.zeros(()),
            "running_mean": torch.zeros(n),
            "moments": torch.zeros(n, n),
        }.items():
            self.register_buffer(name, value.double())  # of numbers of any unit
        self.num_features = self.num_pooled = n

    def forward_features(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        """Return the whitened statistics."""
        found = statistics(images).to(self.running_mean)
        if self.training:
            self._see(found.detach())
        return ((found - self.running_mean) @ self._whitening()).float()

    def pooled(self, features: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """Return them as they are."""
        return features

    def _see(self, found: Float[Tensor, "B D"]) -> None:
        """Take images into the mean and the sums of products about it (Chan, Golub & LeVeque 1983)."""
        n = self.n_seen + len(found)
        away = found.mean(0) - self.running_mean
        about = found - found.mean(0)
        self.moments += about.T @ about + torch.outer(away, away) * (self.n_seen * len(found) / n)
        self.running_mean += away * (len(found) / n)
        self.n_seen.copy_(n)

    def _whitening(self) -> Float[Tensor, "D D"]:
        """Return the matrix that makes the statistics uncorrelated and of unit variance."""
        if self.n_seen < 2:
            return torch.eye(len(self.running_mean)).to(self.running_mean)
        return whitening(self.running_mean, self.moments / (self.n_seen - 1))


def whitening(mean: Float[Tensor, " D"], covariance: Float[Tensor, "D D"]) -> Float[Tensor, "D D"]:
    """Return the matrix that makes numbers of any unit uncorrelated and of unit variance; correlations are shrunk."""
    deviation = covariance.diagonal().sqrt()
    # One that never varies says nothing, unless it does so one day: its unit is then its own size.
    deviation = torch.where(deviation > 1e-9 * mean.abs(), deviation, mean.abs())
    deviation = torch.where(deviation > 0, deviation, torch.ones_like(deviation))
    correlation = covariance / deviation / deviation[:, None]
    identity = torch.eye(len(deviation)).to(deviation)
    inverse = torch.linalg.inv((1 - SHRINKAGE) * correlation + SHRINKAGE * identity)
    root: Tensor = torch.linalg.cholesky(inverse)
    return root / deviation[:, None]


def statistics(images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B 9"]:
    """Return the nine `STATISTICS` of each image, in double precision on the CPU; finite whatever the image.

    Pixel values may have any unit, so that there is no smallest number to add to a denominator.
    """
    plane = images.cpu().double().mean(1)
    values = plane.flatten(1)
    mean, deviation = values.mean(1), values.std(1, correction=0)
    # Rounding leaves a constant image a deviation of its own.
    standard = _ratio(values - mean[:, None], (deviation * (deviation > 1e-9 * mean.abs()))[:, None])
    background = values.median(1, keepdim=True).values
    noise = NORMAL_MAD * (values - background).abs().median(1, keepdim=True).values
    light = torch.where(values - background > BRIGHT * noise, values - background, 0.0)
    top = values.amax(1)
    return torch.stack(
        [
            values.amin(1),
            top,
            mean,
            deviation,
            standard.pow(3).mean(1),
            standard.pow(4).mean(1) - 3,
            light.sum(1),
            (values > (background + top[:, None]) / 2).double().mean(1),
            _half_light_radius(light.reshape(plane.shape)),
        ],
        dim=1,
    )


def _half_light_radius(light: Float[Tensor, "B H W"]) -> Float[Tensor, " B"]:
    """Return the smallest radius [pixels] about the centroid with half of the light within; 0 where there is none."""
    height, width = light.shape[1:]
    y, x = (torch.arange(side, dtype=light.dtype) for side in (height, width))
    total = light.sum((1, 2))
    down = _ratio((light.sum(2) * y).sum(1), total)
    across = _ratio((light.sum(1) * x).sum(1), total)
    radius = torch.hypot(y[None, :, None] - down[:, None, None], x[None, None, :] - across[:, None, None]).flatten(1)
    ordered, order = radius.sort(dim=1)
    within = light.flatten(1).gather(1, order).cumsum(1)
    half = (within < total[:, None] / 2).sum(1, keepdim=True).clamp(max=within.shape[1] - 1)
    return torch.where(total > 0, ordered.gather(1, half)[:, 0], 0.0)


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    """Return above / below, 0 where nothing is below."""
    there = below > 0
    return torch.where(there, above / torch.where(there, below, 1.0), 0.0)
