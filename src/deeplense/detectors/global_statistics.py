"""Nine numbers of an image as a whole: the floor that any detector has to beat."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from deeplense.data.transforms import Images
from deeplense.detectors.detector import DETECTORS, Detector, Effort, Normals, Scores, empty_buffer

BATCH = 256
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


@DETECTORS.register("global_statistics")
class GlobalStatistics(Detector):
    """The squared Mahalanobis distance of nine global statistics from their mean over the normal images.

    Bands are averaged. The background is the median; bright pixels are more than 3 robust standard deviations above it.
    Of them are the flux and the half-light radius, which is taken about their centroid.

    Parameters
    ----------
    image_shape
        (C, H, W).
    """

    raw = True
    reference = "Mahalanobis 1936, Proc. Natl. Inst. Sci. India 2, 49"
    centre: Tensor
    whitening: Tensor

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        super().__init__(image_shape)
        self.register_buffer("centre", empty_buffer())
        self.register_buffer("whitening", empty_buffer())

    def fit(self, normals: Normals, effort: Effort) -> None:
        """Take the mean and the covariance of the statistics; the correlations are shrunk by 1 %."""
        found = torch.cat([statistics(images) for images in normals.in_order(BATCH)])
        centre = found.mean(0)
        deviation = ((found - centre).square().sum(0) / max(1, len(found) - 1)).sqrt()
        # One that never varies says nothing, unless it does so one day: its unit is then its own size.
        deviation = torch.where(deviation > 1e-9 * centre.abs(), deviation, centre.abs())
        deviation = torch.where(deviation > 0, deviation, torch.ones_like(deviation))
        scaled = (found - centre) / deviation
        correlation = scaled.T @ scaled / max(1, len(found) - 1)
        correlation = (1 - SHRINKAGE) * correlation + SHRINKAGE * torch.eye(len(STATISTICS), dtype=torch.float64)
        root = torch.linalg.cholesky(torch.linalg.inv(correlation))
        self.centre = centre.float().to(normals.device)
        self.whitening = (root / deviation[:, None]).float().to(normals.device)

    def score(self, images: Images) -> Scores:
        """Return the squared distance."""
        apart = statistics(images) - self.centre.cpu().double()
        distance = (apart @ self.whitening.cpu().double()).square().sum(1)
        return distance.float().to(images.device)


def statistics(images: Images) -> Float[Tensor, "B 9"]:
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
