"""Our small U-Net: the known degradation is inverted by a filter, the rest is learnt on the coarse grid."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from deeplense.core.degradation import Degradation
from deeplense.core.errors import InvalidOption
from deeplense.upscalers.back_projection import BackProjection
from deeplense.upscalers.bicubic import Bicubic
from deeplense.upscalers.blocks import conv, conv_shuffle, plain_block
from deeplense.upscalers.upscaler import UPSCALERS, Coarse, Fine, Upscaler

WIDTHS = (32, 64, 96)  # on the coarse grid, and on those of twice and four times its pixels
BLOCKS = 1  # on either side of a level; at the bottom both sides meet


class Level(nn.Module):
    """Residual blocks on one grid and, between them, a coarser level of the same kind.

    Coarser pixels are squares of 2×2, so that what an output depends on can be counted.

    Parameters
    ----------
    widths
        Channels on this grid and on every coarser one.
    """

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        width, coarser = widths[0], widths[1:]
        self.before = nn.Sequential(*(plain_block(width) for _ in range(BLOCKS)))
        self.after = nn.Sequential(*(plain_block(width) for _ in range(BLOCKS)))
        self.reach = 4 * BLOCKS
        self.inner: nn.Sequential | None = None
        if coarser:
            level = Level(coarser)
            self.reach += 2 * level.reach + 1
            down, up = nn.Conv2d(width, coarser[0], 2, 2), nn.ConvTranspose2d(coarser[0], width, 2, 2)
            self.inner = nn.Sequential(down, level, up)

    def forward(self, x: Float[Tensor, "B D h w"]) -> Float[Tensor, "B D h w"]:
        """Return the features, with what the coarser levels add to them."""
        x = self.before(x)
        if self.inner is not None:
            x = x + self.inner(x)
        result: Tensor = self.after(x)
        return result


@UPSCALERS.register("residual_unet")
class ResidualUNet(Upscaler):
    """What a small U-Net on the coarse grid adds to bicubic interpolation by back-projection; 0.6 M parameters.

    It adds nothing before it has learnt, so that a constant image stays that constant. Where the degradation is too
    wide a blur to be inverted, it adds to bicubic interpolation alone. No batch norm: an answer is of the image alone.
    """

    reference: ClassVar[str] = "deeplense; U-Net: Ronneberger et al. 2015; blocks: Lim et al. 2017"

    def __init__(self, channels: int, degradation: Degradation) -> None:
        super().__init__(channels, degradation)
        self.start = _start(channels, degradation)
        self.head, self.levels = conv(channels, WIDTHS[0]), Level(WIDTHS)
        self.tail = conv_shuffle(WIDTHS[0], channels, self.factor)
        for parameter in self.tail.parameters():
            nn.init.zeros_(parameter)
        self.reach = max(self.start.reach, self.levels.reach + 2)
        self.alignment = 2 ** (len(WIDTHS) - 1)

    def forward(self, low: Coarse) -> Fine:
        """Return the fine images."""
        h, w = low.shape[-2:]
        whole = F.pad(low, (0, -w % self.alignment, 0, -h % self.alignment), mode="replicate")
        features = self.head(whole).contiguous(memory_format=torch.channels_last)  # half as fast otherwise
        added = self.tail(self.levels(features))[..., : h * self.factor, : w * self.factor]
        fine: Fine = self.start(low) + added
        return fine


def _start(channels: int, degradation: Degradation) -> Upscaler:
    """Return what makes the image that the network adds to."""
    try:
        return BackProjection(channels, degradation)
    except InvalidOption:
        return Bicubic(channels, degradation)
