"""Nine numbers of an image as a whole: the floor that any detector has to beat."""

from __future__ import annotations

import torch
from torch import Tensor

from deeplense.data.transforms import Images
from deeplense.detectors.detector import DETECTORS, Detector, Effort, Normals, Scores, empty_buffer
from deeplense.models.global_statistics import SHRINKAGE, STATISTICS, statistics

BATCH = 256


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
