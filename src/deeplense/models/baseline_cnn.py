"""The simple baseline: a plain stack of convolutions and global average pooling."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from deeplense.models.backbone import MODELS, Backbone, ModelSource
from deeplense.models.blocks import conv_norm_act

WIDTHS = (32, 64, 128, 256)


@MODELS.register("baseline_cnn")
class BaselineCNN(Backbone):
    """Four stages of two 3×3 convolutions and a max pooling, then global average pooling; 1.2 M parameters.

    Parameters
    ----------
    image_shape
        (C, H, W); any size of at least 16 pixels.
    """

    source: ClassVar[ModelSource] = "baseline"

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        widths = (image_shape[0], *WIDTHS)
        stages = [
            nn.Sequential(conv_norm_act(n_in, n_out), conv_norm_act(n_out, n_out), nn.MaxPool2d(2, ceil_mode=True))
            for n_in, n_out in pairwise(widths)
        ]
        self.stages = nn.Sequential(*stages)
        self.num_features = self.num_pooled = WIDTHS[-1]

    def forward_features(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """Return [B, 256, H / 16, W / 16]."""
        features: Tensor = self.stages(images)
        return features

    def pooled(self, features: Float[Tensor, "B D h w"]) -> Float[Tensor, "B D"]:
        """Return the mean over the map."""
        return features.mean((2, 3))
