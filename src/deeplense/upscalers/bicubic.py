"""Bicubic interpolation: the yardstick."""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F

from deeplense.core.degradation import Degradation
from deeplense.upscalers.upscaler import UPSCALERS, Coarse, Fine, Upscaler

REACH = 2  # four coarse pixels lie around a fine one, two on either side


@UPSCALERS.register("bicubic")
class Bicubic(Upscaler):
    """Cubic convolution with a = −0.75, edge pixels repeated; whatever the degradation was.

    Linear, and a constant image stays that constant.
    """

    trained: ClassVar[bool] = False
    reference: ClassVar[str] = "Keys 1981, IEEE Trans. Acoust. Speech Signal Process. 29, 1153"

    def __init__(self, channels: int, degradation: Degradation) -> None:
        super().__init__(channels, degradation)
        self.reach = REACH

    def forward(self, low: Coarse) -> Fine:
        """Return the interpolated images."""
        return F.interpolate(low, scale_factor=self.factor, mode="bicubic", align_corners=False)
