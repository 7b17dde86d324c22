"""A timm network's features, narrowed by two convolutions, weighted by where to look; ResNet50 by default."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deeplense.models.backbone import MODELS, Backbone, ModelSource
from deeplense.models.timm_backbone import TimmBackbone

WIDTHS = (512, 256)
HIDDEN = 64  # of the attention
Convolution = type[nn.Conv1d] | type[nn.Conv2d]
BatchNorm = type[nn.BatchNorm1d] | type[nn.BatchNorm2d]


class SpatialAttention(nn.Module):
    """Features times a map between 0 and 1 of where they matter: two convolutions, PReLU between, a sigmoid.

    In the spirit of Woo et al. 2018, ECCV, arXiv:1807.06521, whose map is made of means and maxima.

    Parameters
    ----------
    channels
        Of the features.
    convolution
        One- or two-dimensional.
    """

    def __init__(self, channels: int, convolution: Convolution) -> None:
        super().__init__()
        self.map = nn.Sequential(
            convolution(channels, HIDDEN, 3, padding=1), nn.PReLU(HIDDEN), convolution(HIDDEN, 1, 3, padding=1)
        )

    def forward(self, x: Float[Tensor, "B D *places"]) -> Float[Tensor, "B D *places"]:
        """Return the weighted features."""
        weighted: Tensor = x * torch.sigmoid(self.map(x))
        return weighted


@MODELS.register("resnet_attention")
class ResNetAttention(Backbone):
    """A ResNet50, or another timm network (--extractor), two convolutions and spatial attention; 34 M parameters.

    ResNet: He et al. 2016, CVPR, arXiv:1512.03385. Mish: Misra 2020, BMVC, arXiv:1908.08681.

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
    extractor: ClassVar[str | None] = "resnet50"
    convolution: ClassVar[Convolution] = nn.Conv2d
    batch_norm: ClassVar[BatchNorm] = nn.BatchNorm2d

    def __init__(self, image_shape: tuple[int, int, int], extractor: str, pretrained: bool | Path = False) -> None:
        super().__init__()
        self.extract = TimmBackbone(extractor, image_shape, pretrained)
        self.notes += self.extract.notes
        channels = self.extract.map_channels(image_shape)
        first, second = WIDTHS
        self.narrow = nn.Sequential(
            self.convolution(channels, first, 3, padding=1, bias=False),
            self.batch_norm(first),
            nn.PReLU(first),
            self.convolution(first, second, 3, padding=1, bias=False),
            self.batch_norm(second),
            nn.Mish(),
        )
        self.attend = SpatialAttention(second, self.convolution)
        self.num_features = self.num_pooled = second

    def forward_features(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D *places"]:
        """Return the weighted features."""
        features: Tensor = self.attend(self.narrow(self.extract.feature_map(images)))
        return features

    def pooled(self, features: Float[Tensor, "B D *places"]) -> Float[Tensor, "B D"]:
        """Return their mean over all places."""
        return features.flatten(2).mean(2)


@MODELS.register("resnet_attention_1d")
class ResNetAttention1d(ResNetAttention):
    """The same with one-dimensional convolutions over the places of the map, row after row; 22 M parameters.

    He et al. 2016, CVPR, arXiv:1512.03385; Misra 2020, BMVC, arXiv:1908.08681. Neighbours in the sky that are not in
    the same row are no neighbours here.
    """

    convolution: ClassVar[Convolution] = nn.Conv1d
    batch_norm: ClassVar[BatchNorm] = nn.BatchNorm1d

    def forward_features(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D N"]:
        """Return the weighted features, a row of places."""
        features: Tensor = self.attend(self.narrow(self.extract.feature_map(images).flatten(2)))
        return features
