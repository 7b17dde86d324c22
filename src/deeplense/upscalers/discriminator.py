"""The opponent of an upscaler that learns to make images look real: it tells fine images from made ones."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from deeplense.upscalers.upscaler import Fine

WIDTHS = (32, 64, 128)
SLOPE = 0.2
Logits = Float[Tensor, "B 1 p q"]
Loss = Float[Tensor, ""]


class PatchDiscriminator(nn.Module):
    """How real each patch of 38 × 38 fine pixels looks; a patch every 8 pixels (Isola et al. 2017, arXiv:1611.07004).

    Every layer is divided by its largest singular value (Miyato et al. 2018, arXiv:1802.05957); no batch norm, so that
    an image is judged by itself.

    Parameters
    ----------
    channels
        Bands of the images.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for n_in, n_out in zip((channels, *WIDTHS), WIDTHS, strict=False):
            layers += [spectral_norm(nn.Conv2d(n_in, n_out, 4, 2, padding=1)), nn.LeakyReLU(SLOPE)]
        self.layers = nn.Sequential(*layers, spectral_norm(nn.Conv2d(WIDTHS[-1], 1, 3, padding=1)))

    def forward(self, images: Fine) -> Logits:
        """Return a logit per patch, higher where it looks more real; images have 8 pixels a side or more."""
        logits: Logits = self.layers(images)
        return logits


def opponent_loss(real: Logits, made: Logits) -> Loss:
    """Return what the discriminator loses: each should look more real, or less, than the others do on average.

    Relativistic average (Jolicoeur-Martineau 2019, arXiv:1807.00734), as in ESRGAN; of logistic losses.
    """
    return (F.softplus(made.mean() - real).mean() + F.softplus(made - real.mean()).mean()) / 2


def generator_loss(real: Logits, made: Logits) -> Loss:
    """Return what the upscaler loses: the same, with both kinds of image exchanged."""
    return opponent_loss(made, real)


def steepness(discriminator: nn.Module, real: Fine) -> Loss:
    """Return half the mean squared gradient of the images' summed logits, on real images: to be added to its loss.

    The R1 penalty (Mescheder et al. 2018, ICML, arXiv:1801.04406, equation 9); its weight is the caller's. Without it
    both may circle about the equilibrium for ever.
    """
    images = real.detach().requires_grad_()
    (slope,) = torch.autograd.grad(discriminator(images).sum(), images, create_graph=True)
    result: Tensor = slope.square().sum((1, 2, 3)).mean() / 2
    return result
