"""The contract of everything that turns images into features, and the registry of our own architectures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn

from deeplense.core.registry import Registry

ModelSource = Literal["baseline", "timm", "deeplense"]


class Backbone(nn.Module, ABC):
    """Images to features; knows nothing of classes.

    Attributes
    ----------
    source
        Where the architecture comes from.
    num_features
        Channels of the feature map, D.
    num_pooled
        Length of the pooled features.
    notes
        What a user should be told of this model on these images: a resize and its reason.
    """

    source: ClassVar[ModelSource]
    num_features: int
    num_pooled: int

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []

    @abstractmethod
    def forward_features(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, " *features"]:
        """Return a map [B, D, h, w] or tokens [B, N, D]."""

    @abstractmethod
    def pooled(self, features: Float[Tensor, " *features"]) -> Float[Tensor, "B P"]:
        """Return one vector per image from `forward_features`' output."""


MODELS: Registry[Callable[[tuple[int, int, int]], Backbone]] = Registry("model", "deeplense.models")
