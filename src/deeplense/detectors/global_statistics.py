"""Nine numbers of an image as a whole: the floor that any detector has to beat."""

from __future__ import annotations

import torch
from torch import Tensor

from deeplense.data.transforms import Images
from deeplense.detectors.detector import DETECTORS, Detector, Effort, Normals, Scores, empty_buffer
from deeplense.models.global_statistics import statistics, whitening

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
        covariance = (found - centre).T @ (found - centre) / max(1, len(found) - 1)
        self.centre = centre.float().to(normals.device)
        self.whitening = whitening(centre, covariance).float().to(normals.device)

    def score(self, images: Images) -> Scores:
        """Return the squared distance."""
        apart = statistics(images) - self.centre.cpu().double()
        distance = (apart @ self.whitening.cpu().double()).square().sum(1)
        return distance.float().to(images.device)
