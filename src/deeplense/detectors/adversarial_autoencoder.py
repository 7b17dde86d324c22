"""An adversarial autoencoder: normal images fill a normal distribution, strange ones lie outside it or err."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from deeplense.data.transforms import Images
from deeplense.detectors.coders import BATCH, LATENT, TINY, Decoder, Encoder, Reconstructing
from deeplense.detectors.detector import DETECTORS, Effort, Normals, Scores
from deeplense.detectors.learning import learn, renew

HIDDEN = 128  # units of the discriminator's layers
FORCE = 0.1  # of the discriminator on the encoder: reconstruction comes first
STEEPNESS = 10.0  # weight of the discriminator's squared slope: with less the two chase each other in circles


@DETECTORS.register("adversarial_autoencoder")
class AdversarialAutoencoder(Reconstructing):
    """Reconstruction error and improbability of the latent numbers, each standardised over the normal images, added.

    A discriminator learns to tell latent numbers from standard normal ones, the encoder learns to deceive it; both in
    the same steps, each with the other held fixed.

    Parameters
    ----------
    image_shape
        (C, H, W).
    """

    reference: ClassVar[str] = "Makhzani et al. 2015, arXiv:1511.05644"
    usual: Tensor

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        super().__init__(image_shape)
        self.encoder, self.decoder = Encoder(image_shape, LATENT), Decoder(image_shape, LATENT)
        self.discriminator = nn.Sequential(
            nn.Linear(LATENT, HIDDEN),
            nn.LeakyReLU(0.2),
            nn.Linear(HIDDEN, HIDDEN),
            nn.LeakyReLU(0.2),
            nn.Linear(HIDDEN, 1),
        )
        self.register_buffer("usual", torch.tensor([[0.0, 0.0], [1.0, 1.0]]))  # means, then σ, of the two terms

    def fit(self, normals: Normals, effort: Effort) -> None:
        """Learn to reconstruct from normally distributed numbers, then what errors and numbers are usual."""
        renew(self, effort.seed)
        learn(self, self.loss, normals, effort, "adversarial autoencoder")
        self.measure_errors(normals)
        terms = torch.cat([self.terms(images) for images in normals.in_order(BATCH)]).double()
        self.usual.copy_(torch.stack([terms.mean(0), terms.std(0, correction=0).clamp(min=TINY)]))

    def loss(self, images: Images) -> Tensor:
        """Return half the log of the mean squared error plus what the discriminator and its deceiver lose."""
        latent = self.encoder(images)
        error = F.mse_loss(self.decoder(latent), images)
        judged = self.judgement(torch.randn_like(latent), latent.detach())
        fixed = {name: weight.detach() for name, weight in self.discriminator.named_parameters()}
        deceived = F.softplus(-functional_call(self.discriminator, fixed, (latent,)))
        return (error + TINY).log() / 2 + judged + FORCE * deceived.mean()

    def judgement(self, prior: Float[Tensor, "B Z"], own: Float[Tensor, "B Z"]) -> Tensor:
        """Return what the discriminator loses, with a penalty on its steepness (Mescheder et al. 2018, ICML)."""
        prior.requires_grad_()
        judged = self.discriminator(prior)
        (slope,) = torch.autograd.grad(judged.sum(), prior, create_graph=True)
        mistaken = (F.softplus(-judged) + F.softplus(self.discriminator(own))).mean()
        loss: Tensor = mistaken + STEEPNESS / 2 * slope.square().sum(1).mean()
        return loss

    def reconstruct(self, images: Images) -> Images:
        """Return what is left of the images."""
        images = self.decoder(self.encoder(images))
        return images

    @torch.no_grad()
    def terms(self, images: Images) -> Float[Tensor, "B 2"]:
        """Return the reconstruction error, and −log density of the latent numbers without its constant."""
        error = self.standard_errors(images).mean((1, 2, 3))
        latent = self.encoder(images.contiguous(memory_format=torch.channels_last))
        return torch.stack([error, latent.square().sum(1) / 2], 1)

    def score(self, images: Images) -> Scores:
        """Return the sum of both terms, each less its mean over the normal images and in units of its σ there."""
        return ((self.terms(images) - self.usual[0]) / self.usual[1]).sum(1)
