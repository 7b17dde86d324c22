"""The contract of everything that turns images into features, and the registry of our own architectures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn

from deeplense.core.registry import Registry
from deeplense.models.fusion import Fusion

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
    raw
        Whether it takes pixel values as they are stored: no normalisation then.
    physical
        Whether it is built on the recipe of the images: the constructor takes it as a second argument.
    extractor
        The timm model that it is built on unless another is named: the constructor takes the name, and where the
        weights come from, as second and third arguments; None where it is built on none.
    fusion
        How a catalogue is joined to what it sees, where that is part of it; None where it is the user's choice.
    notes
        What a user should be told of this model on these images: a resize and its reason.
    """

    source: ClassVar[ModelSource]
    raw: ClassVar[bool] = False
    physical: ClassVar[bool] = False
    extractor: ClassVar[str | None] = None
    fusion: ClassVar[type[Fusion] | None] = None
    num_features: int
    num_pooled: int

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []

    def expect(self, n_images: int) -> None:
        """Learn how many images will come: what is worth compiling depends on it."""
        return None

    def misfit(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, " B"] | None:
        """Return how badly the model of each image fits, as χ² per pixel; None where there is none."""
        return None

    def imaged_convergence(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B 1 H W"] | None:
        """Return the convergence that the model itself finds beyond a smooth lens; None where it looks for none."""
        return None

    @abstractmethod
    def forward_features(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, " *features"]:
        """Return a map [B, D, h, w] or tokens [B, N, D]."""

    @abstractmethod
    def pooled(self, features: Float[Tensor, " *features"]) -> Float[Tensor, "B P"]:
        """Return one vector per image from `forward_features`' output."""


MODELS: Registry[Callable[..., Backbone]] = Registry("model", "deeplense.models")
