"""An upscaler with the spread of its error: the network of the task `super_resolve`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deeplense.upscalers.spread import SpreadHead
from deeplense.upscalers.upscaler import Coarse, Fine, Upscaler

WITHIN_ONE_SIGMA = 0.6827  # of a normal distribution
EVERY = 37  # pixels of which one is looked at: their errors are alike


class SuperResolver(nn.Module):
    """Coarse images, as they are stored, to fine ones in the same unit, and the logarithm of their σ.

    The spread is learnt from the estimate's errors and does not change the estimate: no gradient goes from it to the
    upscaler (a mean–variance network in two parts; D. A. Nix, A. S. Weigend, ICNN 1994).

    Parameters
    ----------
    upscaler
        What makes an image finer.

    Attributes
    ----------
    scale
        Unit in which the upscaler sees pixel values.
    widening
        Factor by which σ is widened, so that it covers what it should on validation.
    """

    notes: ClassVar[tuple[str, ...]] = ()
    scale: Tensor
    widening: Tensor

    def __init__(self, upscaler: Upscaler) -> None:
        super().__init__()
        self.upscaler, self.spread = upscaler, SpreadHead(upscaler.channels, upscaler.factor)
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("widening", torch.ones(()))

    @property
    def reach(self) -> int:
        """Coarse pixels over which an answer depends on the image."""
        return self.upscaler.reach + self.spread.reach

    def expect(self, n_images: int) -> None:
        """Learn how many images will come: nothing here is worth compiling."""

    def misfit(self, images: Coarse) -> None:
        """Return nothing: there is no physical model."""

    def prepare(self, sample: Coarse, pairs: Iterable[tuple[Coarse, Fine]]) -> None:
        """Take the unit of pixel values from a sample, and fit what does not learn by gradients to pairs."""
        self.scale.fill_(float(sample.std()) or 1.0)
        self.upscaler.fit((low / self.scale, fine / self.scale) for low, fine in pairs)

    def forward(self, low: Coarse) -> Float[Tensor, "B 2C H W"]:
        """Return the fine images and log σ of each of their pixels, band by band."""
        inside = low / self.scale
        estimate = self.upscaler(inside)
        log_sigma = self.spread(inside.detach(), estimate.detach())
        return torch.cat([estimate * self.scale, log_sigma + torch.log(self.scale * self.widening)], dim=1)

    def calibrate(self, outputs: Iterable[tuple[Float[Tensor, "B 2C H W"], Fine]]) -> None:
        """Widen σ so that 68.27 % of the errors on held-out images lie within it.

        Parameters
        ----------
        outputs
            What `forward` returns of them, and the images that are wanted.
        """
        found = []
        for output, wanted in outputs:
            estimate, log_sigma = output.float().chunk(2, dim=1)
            found.append(((wanted - estimate).abs() / log_sigma.exp()).flatten()[::EVERY])
        errors = torch.cat(found)
        middle = errors.kthvalue(max(1, round(WITHIN_ONE_SIGMA * len(errors)))).values
        self.widening.mul_(middle.clamp(min=1e-6))
