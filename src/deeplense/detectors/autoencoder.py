"""An autoencoder: images through the eye of a needle."""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from deeplense.data.transforms import Images
from deeplense.detectors.coders import LATENT, Decoder, Encoder, Reconstructing
from deeplense.detectors.detector import DETECTORS, Effort, Normals
from deeplense.detectors.learning import learn, renew


@DETECTORS.register("autoencoder")
class Autoencoder(Reconstructing):
    """How badly an image survives being squeezed into 64 numbers and back, learnt on normal ones.

    Parameters
    ----------
    image_shape
        (C, H, W).
    """

    reference: ClassVar[str] = (
        "Hinton & Salakhutdinov 2006, Science 313, 504; for lenses Alexander et al. 2020, arXiv:2008.12731"
    )

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        super().__init__(image_shape)
        self.encoder, self.decoder = Encoder(image_shape, LATENT), Decoder(image_shape, LATENT)

    def fit(self, normals: Normals, effort: Effort) -> None:
        """Learn to reconstruct, then how well that goes."""
        renew(self, effort.seed)
        learn(self, self.loss, normals, effort, "autoencoder")
        self.measure_errors(normals)

    def loss(self, images: Images) -> Tensor:
        """Return the mean squared error."""
        return F.mse_loss(self.reconstruct(images), images)

    def reconstruct(self, images: Images) -> Images:
        """Return what is left of the images."""
        images = self.decoder(self.encoder(images))
        return images
