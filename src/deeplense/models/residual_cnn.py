"""Our small residual network: full-resolution detail, features that keep their position."""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from deeplense.models.backbone import MODELS, Backbone, ModelSource
from deeplense.models.blocks import ResidualBlock, conv_norm_act

WIDTHS = (24, 48, 96)
KEPT_CHANNELS, KEPT_SIZE = 16, 8


@MODELS.register("residual_cnn")
class ResidualCNN(Backbone):
    """A stem of stride 2, three residual stages, and a flattened 8×8 map instead of global pooling; 0.37 M parameters.

    Lens and source keep their place in these images, so where a feature lies says as much as that it is there.

    Parameters
    ----------
    image_shape
        (C, H, W).
    """

    source: ClassVar[ModelSource] = "deeplense"

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        first, second, third = WIDTHS
        self.stages = nn.Sequential(
            conv_norm_act(image_shape[0], first, stride=2),
            ResidualBlock(first, first),
            ResidualBlock(first, second, stride=2),
            ResidualBlock(second, second),
            ResidualBlock(second, third, stride=2),
            ResidualBlock(third, third),
        )
        self.keep = nn.Sequential(
            nn.Conv2d(third, KEPT_CHANNELS, 1, bias=False), nn.BatchNorm2d(KEPT_CHANNELS), nn.ReLU()
        )
        self.resize = nn.AdaptiveAvgPool2d(KEPT_SIZE)
        self.num_features, self.num_pooled = third, KEPT_CHANNELS * KEPT_SIZE**2

    def forward_features(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """Return [B, 96, H / 8, W / 8]."""
        features: Tensor = self.stages(images)
        return features

    def pooled(self, features: Float[Tensor, "B D h w"]) -> Float[Tensor, "B P"]:
        """Return 16 channels on an 8×8 grid, flattened."""
        kept: Tensor = self.resize(self.keep(features))
        return kept.flatten(1)
