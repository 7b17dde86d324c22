"""EDSR: residual blocks without batch norm."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from deeplense.core.degradation import Degradation
from deeplense.upscalers.blocks import Residual, coarse_pixels, conv, conv_shuffle, plain_block
from deeplense.upscalers.upscaler import UPSCALERS, Coarse, Fine, Upscaler

WIDTH = 64
SCALE = 0.1  # on what a block adds; the paper's, for its large model


@UPSCALERS.register("edsr_8")
class EDSR(Upscaler):
    """EDSR with eight residual blocks of 64 features, each scaled by 0.1; any factor in one step.

    Attributes
    ----------
    blocks
        Residual blocks; 16 in the paper's small model.
    """

    reference: ClassVar[str] = "Lim et al. 2017, CVPR Workshops, arXiv:1707.02921"
    blocks: ClassVar[int] = 8

    def __init__(self, channels: int, degradation: Degradation) -> None:
        super().__init__(channels, degradation)
        self.head = conv(channels, WIDTH)
        self.body = Residual(*(plain_block(WIDTH, SCALE) for _ in range(self.blocks)), conv(WIDTH, WIDTH))
        self.up = nn.Sequential(conv_shuffle(WIDTH, WIDTH, self.factor), conv(WIDTH, channels))
        self.reach = 2 * self.blocks + 3 + coarse_pixels(1, self.factor)

    def forward(self, low: Coarse) -> Fine:
        """Return the fine images."""
        fine: Fine = self.up(self.body(self.head(low)))
        return fine


@UPSCALERS.register("edsr_4")
class EDSR4(EDSR):
    """EDSR with four residual blocks."""

    blocks = 4


@UPSCALERS.register("edsr_1")
class EDSR1(EDSR):
    """EDSR with one residual block."""

    blocks = 1
