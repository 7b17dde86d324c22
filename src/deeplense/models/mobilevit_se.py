"""A timm network's features, read by two small convolutions with squeeze-and-excitation; MobileViT by default."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deeplense.models.backbone import MODELS, Backbone, ModelSource
from deeplense.models.timm_backbone import TimmBackbone

DROPOUT = 0.2  # between the two convolutions
SQUEEZE = 4  # times fewer channels


class SqueezeExcite(nn.Module):
    """Weights of the channels from their means over the map (Hu et al. 2018, CVPR, arXiv:1709.01507).

    Parameters
    ----------
    channels
        Of the map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(1, channels // SQUEEZE)
        self.weights = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels), nn.Sigmoid())

    def forward(self, x: Float[Tensor, "B D h w"]) -> Float[Tensor, "B D h w"]:
        """Return the map with its channels weighted."""
        weighted: Tensor = x * self.weights(x.mean((2, 3)))[:, :, None, None]
        return weighted


def excited_block(n_in: int, n_out: int) -> nn.Sequential:
    """Return a 3×3 convolution, batch norm, PReLU, squeeze-and-excitation."""
    convolution = nn.Conv2d(n_in, n_out, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(n_out), nn.PReLU(n_out), SqueezeExcite(n_out))


@MODELS.register("mobilevit_se")
class MobileViTSE(Backbone):
    """A MobileViT, or another timm network (--extractor), then two convolutions with squeeze-and-excitation; 12 M.

    MobileViT v2: Mehta & Rastegari 2022, arXiv:2206.02680, whose attention costs as much as there are pixels, not their
    square. Squeeze-and-excitation: Hu et al. 2018, CVPR, arXiv:1709.01507.

    Parameters
    ----------
    image_shape
        (C, H, W); resized where the timm network takes one size only.
    extractor
        Name of the timm network.
    pretrained
        Where its weights come from, as `TimmBackbone` takes it.
    """

    source: ClassVar[ModelSource] = "deeplense"
    extractor: ClassVar[str | None] = "mobilevitv2_150"
    stages: ClassVar[int | None] = None
    widths: ClassVar[tuple[int, int]] = (256, 128)

    def __init__(self, image_shape: tuple[int, int, int], extractor: str, pretrained: bool | Path = False) -> None:
        super().__init__()
        self.extract = TimmBackbone(extractor, image_shape, pretrained, self.stages)
        self.notes += self.extract.notes
        channels = self.extract.map_channels(image_shape)
        first, second = self.widths
        self.blocks = nn.Sequential(excited_block(channels, first), nn.Dropout(DROPOUT), excited_block(first, second))
        self.num_features = self.num_pooled = second

    def forward_features(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """Return the map after both convolutions."""
        features: Tensor = self.blocks(self.extract.feature_map(images))
        return features

    def pooled(self, features: Float[Tensor, "B D h w"]) -> Float[Tensor, "B D"]:
        """Return the mean over the map."""
        return torch.mean(features, (2, 3))


@MODELS.register("mobilevit_se_xxs")
class MobileViTSEXXS(MobileViTSE):
    """The same on the first three stages (1/8 of the resolution) of the smallest MobileViT v2; 0.3 M parameters.

    Mehta & Rastegari 2022, arXiv:2206.02680; Hu et al. 2018, CVPR, arXiv:1709.01507. The third stage is the first that
    has attention.
    """

    extractor: ClassVar[str | None] = "mobilevitv2_050"
    stages: ClassVar[int | None] = 3
    widths: ClassVar[tuple[int, int]] = (96, 64)
