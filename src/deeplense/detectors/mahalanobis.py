"""How far an image's features lie from those of normal images, in units of their own scatter."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from deeplense.data.transforms import Images
from deeplense.detectors.detector import DETECTORS, Detector, Effort, Normals, Scores
from deeplense.detectors.encoder import N_POOLED, Encoder, pooled_of_all, whitening


@DETECTORS.register("mahalanobis")
class Mahalanobis(Detector):
    """The Mahalanobis distance of pooled features that were learnt without labels; covariance after Ledoit & Wolf 2004.

    Parameters
    ----------
    image_shape
        (C, H, W).
    """

    learns: ClassVar[bool] = True
    reference: ClassVar[str] = "Lee et al. 2018, NeurIPS (arXiv:1807.03888); features: Bardes et al. 2022 (VICReg)"
    mean: Tensor
    whitening: Tensor

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        super().__init__(image_shape)
        self.encoder = Encoder(image_shape)
        self.register_buffer("mean", torch.zeros(N_POOLED))
        self.register_buffer("whitening", torch.eye(N_POOLED))

    def fit(self, normals: Normals, effort: Effort) -> None:
        """Learn features, then their mean and covariance."""
        self.encoder.fit(normals, effort, "mahalanobis")
        features = pooled_of_all(self.encoder, normals, effort.batch_size)
        self.mean, self.whitening = whitening(features)

    def score(self, images: Images) -> Scores:
        """Return the distance."""
        away: Tensor = (self.encoder.pooled(images) - self.mean) @ self.whitening
        distance: Tensor = torch.linalg.vector_norm(away, dim=1)
        return distance
