"""How wrong an estimate may be, pixel by pixel."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from deeplense.upscalers.blocks import conv
from deeplense.upscalers.upscaler import Coarse, Fine

WIDTH = 32
LOWEST, HIGHEST = -12.0, 4.0  # of log σ, in the unit of the images


class SpreadHead(nn.Module):
    """The logarithm of σ of an estimate's error at every fine pixel, from the coarse image and the estimate.

    Neither gets a gradient from it. It starts at σ = 1 everywhere, wider than errors are, so that the first steps are
    short. Local; edges are padded with zeros.

    Parameters
    ----------
    channels
        Bands of the images.
    factor
        Fine pixels per coarse pixel and axis.

    Attributes
    ----------
    reach
        In coarse pixels, of the coarse image and of the estimate alike.
    """

    def __init__(self, channels: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        last = conv(WIDTH, channels * factor**2, 1)
        self.layers = nn.Sequential(
            conv(channels * (1 + factor**2), WIDTH),
            nn.ReLU(inplace=True),
            conv(WIDTH, WIDTH),
            nn.ReLU(inplace=True),
            last,
        )
        self.reach = 2
        half, middle = _range()
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
        self.start = -half * math.atanh(middle / half)  # of what the bounds make 0

    def forward(self, low: Coarse, estimate: Fine) -> Float[Tensor, "B C H W"]:
        """Return log σ, between −12 and 4."""
        seen = torch.cat([low.detach(), F.pixel_unshuffle(estimate.detach(), self.factor)], 1)
        half, middle = _range()
        result = middle + half * torch.tanh((self.start + self.layers(seen).float()) / half)
        return F.pixel_shuffle(result, self.factor)


def _range() -> tuple[float, float]:
    """Return half the range of log σ, and its middle."""
    return (HIGHEST - LOWEST) / 2, (HIGHEST + LOWEST) / 2
