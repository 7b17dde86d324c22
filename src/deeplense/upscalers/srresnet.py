"""SRResNet: the generator of SRGAN, by itself."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import nn

from deeplense.core.degradation import Degradation
from deeplense.upscalers.blocks import Residual, coarse_pixels, conv, conv_shuffle
from deeplense.upscalers.upscaler import UPSCALERS, Coarse, Fine, Upscaler

WIDTH = 64
WIDE = 9  # pixels a side of the first and the last convolution


@UPSCALERS.register("srresnet_3")
class SRResNet(Upscaler):
    """SRResNet with three residual blocks; batch norm and PReLU, any factor in one step.

    Attributes
    ----------
    blocks
        Residual blocks; 16 in the paper.
    upsampling
        "pixel_shuffle", as in the paper, or "deconvolution": a transposed convolution of stride `factor`.
    """

    reference: ClassVar[str] = "Ledig et al. 2017, CVPR, arXiv:1609.04802"
    blocks: ClassVar[int] = 3
    upsampling: ClassVar[Literal["pixel_shuffle", "deconvolution"]] = "pixel_shuffle"

    def __init__(self, channels: int, degradation: Degradation) -> None:
        super().__init__(channels, degradation)
        self.head = nn.Sequential(conv(channels, WIDTH, WIDE), nn.PReLU())
        self.body = Residual(*(_block() for _ in range(self.blocks)), conv(WIDTH, WIDTH), nn.BatchNorm2d(WIDTH))
        step = _deconvolution if self.upsampling == "deconvolution" else conv_shuffle
        self.up = nn.Sequential(step(WIDTH, WIDTH, self.factor), nn.PReLU(), conv(WIDTH, channels, WIDE))
        self.reach = WIDE // 2 + 2 * self.blocks + 2 + coarse_pixels(WIDE // 2, self.factor)

    def forward(self, low: Coarse) -> Fine:
        """Return the fine images."""
        fine: Fine = self.up(self.body(self.head(low)))
        return fine


def _block() -> Residual:
    return Residual(conv(WIDTH, WIDTH), nn.BatchNorm2d(WIDTH), nn.PReLU(), conv(WIDTH, WIDTH), nn.BatchNorm2d(WIDTH))


def _deconvolution(n_in: int, n_out: int, factor: int) -> nn.ConvTranspose2d:
    """Return a transposed convolution of which two coarse pixels per axis reach every fine one."""
    return nn.ConvTranspose2d(n_in, n_out, 2 * factor, factor, padding=-(-factor // 2), output_padding=factor % 2)


@UPSCALERS.register("srresnet_1")
class SRResNet1(SRResNet):
    """SRResNet with one residual block."""

    blocks = 1


@UPSCALERS.register("srresnet_2")
class SRResNet2(SRResNet):
    """SRResNet with two residual blocks."""

    blocks = 2


@UPSCALERS.register("srresnet_3_deconvolution")
class SRResNet3Deconvolution(SRResNet):
    """SRResNet with three residual blocks and a transposed convolution instead of the pixel shuffle."""

    upsampling = "deconvolution"
