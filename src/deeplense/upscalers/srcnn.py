"""SRCNN: the first convolutional network for super-resolution."""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import nn

from deeplense.core.degradation import Degradation
from deeplense.upscalers.bicubic import REACH
from deeplense.upscalers.blocks import coarse_pixels, conv
from deeplense.upscalers.upscaler import UPSCALERS, Coarse, Fine, Upscaler

WIDTHS = (64, 32)
SIZES = (9, 5, 5)  # of the three that the paper compares the most accurate


@UPSCALERS.register("srcnn")
class SRCNN(Upscaler):
    """Three convolutions, 9-5-5, on the bicubic image.

    Edges are padded with zeros: the paper leaves them out.
    """

    reference: ClassVar[str] = "Dong et al. 2016, IEEE TPAMI 38, 295, arXiv:1501.00092"

    def __init__(self, channels: int, degradation: Degradation) -> None:
        super().__init__(channels, degradation)
        self.layers = nn.Sequential(
            conv(channels, WIDTHS[0], SIZES[0]),
            nn.ReLU(inplace=True),
            conv(WIDTHS[0], WIDTHS[1], SIZES[1]),
            nn.ReLU(inplace=True),
            conv(WIDTHS[1], channels, SIZES[2]),
        )
        self.reach = REACH + coarse_pixels(sum(size // 2 for size in SIZES), self.factor)

    def forward(self, low: Coarse) -> Fine:
        """Return the fine images."""
        fine: Fine = self.layers(F.interpolate(low, scale_factor=self.factor, mode="bicubic", align_corners=False))
        return fine
