"""Building blocks that more than one upscaler uses."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn


def conv(n_in: int, n_out: int, size: int = 3) -> nn.Conv2d:
    """Return a convolution that keeps the size of its images."""
    return nn.Conv2d(n_in, n_out, size, padding=size // 2)


def conv_shuffle(n_in: int, n_out: int, factor: int) -> nn.Sequential:
    """Return a 3×3 convolution to `factor`² channels per channel, which become pixels (Shi et al. 2016)."""
    return nn.Sequential(conv(n_in, n_out * factor**2), nn.PixelShuffle(factor))


def coarse_pixels(fine: int, factor: int) -> int:
    """Return how many coarse pixels a reach of so many fine ones can cross."""
    return -(-fine // factor)


class Residual(nn.Module):
    """What a body of layers adds to its input.

    Parameters
    ----------
    body
        Layers, to as many channels as they get.
    scale
        Factor on what they add.
    """

    def __init__(self, *body: nn.Module, scale: float = 1.0) -> None:
        super().__init__()
        self.body, self.scale = nn.Sequential(*body), scale

    def forward(self, x: Float[Tensor, "B D h w"]) -> Float[Tensor, "B D h w"]:
        """Return the sum."""
        result: Tensor = x + self.scale * self.body(x)
        return result


def plain_block(width: int, scale: float = 1.0) -> Residual:
    """Return a residual block without batch norm (Lim et al. 2017)."""
    return Residual(conv(width, width), nn.ReLU(inplace=True), conv(width, width), scale=scale)
