"""A variational autoencoder: a bound on how probable an image is."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from deeplense.data.transforms import Images
from deeplense.detectors.coders import LATENT, TINY, Decoder, Encoder, Reconstructing
from deeplense.detectors.detector import DETECTORS, Effort, Normals, Scores
from deeplense.detectors.learning import learn, renew

LOG_VARIANCE = 12.0  # largest magnitude of the latent's: e¹² is far beyond what is learnt, and a finite number


@DETECTORS.register("variational_autoencoder")
class VariationalAutoencoder(Reconstructing):
    """The negative evidence lower bound of an image, per pixel value.

    Pixels are normally distributed about the reconstruction. While it learns they have one variance, the one that is
    best for the batch (Rybkin et al. 2021, ICML, "Simple and effective VAE training with calibrated decoders"), so no
    weight of the Kullback–Leibler term is to be chosen; afterwards each has its own, measured on the normal images.

    Parameters
    ----------
    image_shape
        (C, H, W).
    """

    reference: ClassVar[str] = "Kingma & Welling 2014, ICLR, arXiv:1312.6114"

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        super().__init__(image_shape)
        self.encoder, self.decoder = Encoder(image_shape, 2 * LATENT), Decoder(image_shape, LATENT)

    def fit(self, normals: Normals, effort: Effort) -> None:
        """Raise the evidence lower bound, then measure the variance of every pixel."""
        renew(self, effort.seed)
        learn(self, self.loss, normals, effort, "variational autoencoder")
        self.measure_errors(normals)

    def loss(self, images: Images) -> Tensor:
        """Return the negative evidence lower bound per pixel value, without its constant."""
        mean, log_variance = self.posterior(images)
        latent = mean + torch.exp(log_variance / 2) * torch.randn_like(mean)
        error = (images - self.decoder(latent)).square().mean()
        bound: Tensor = (error + TINY).log() / 2 + divergence(mean, log_variance).mean() / images[0].numel()
        return bound

    def posterior(self, images: Images) -> tuple[Float[Tensor, "B Z"], Float[Tensor, "B Z"]]:
        """Return mean and log variance of the latent numbers."""
        mean, log_variance = self.encoder(images).chunk(2, dim=1)
        return mean, log_variance.clamp(-LOG_VARIANCE, LOG_VARIANCE)

    def reconstruct(self, images: Images) -> Images:
        """Return the image of the mean latent numbers."""
        images = self.decoder(self.posterior(images)[0])
        return images

    @torch.no_grad()
    def score(self, images: Images) -> Scores:
        """Return the negative evidence lower bound per pixel value, the likelihood at the mean latent numbers."""
        surprise = (self.standard_errors(images) + self.variance.log() + math.log(2 * math.pi)).mean((1, 2, 3)) / 2
        self.eval()
        posterior = self.posterior(images.contiguous(memory_format=torch.channels_last))
        return surprise + divergence(*posterior) / images[0].numel()


def divergence(mean: Float[Tensor, "B Z"], log_variance: Float[Tensor, "B Z"]) -> Float[Tensor, " B"]:
    """Return the Kullback–Leibler divergence of normal distributions from the standard one."""
    return (mean.square() + log_variance.exp() - 1 - log_variance).sum(1) / 2
