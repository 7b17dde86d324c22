"""What a catalogue says of an object, joined to what a backbone sees of its image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn

FusionName = Literal["none", "late", "film"]
Features = Float32[Tensor, "N F"]
Targets = Int64[Tensor, " N"]
Weights = Float[Tensor, " N"] | None  # how much each image counts; None where all count alike
HIDDEN = 64  # of what is made of the features
FARTHEST = 10.0  # scaled features are cut off here: a flag value of -99 must not drown the others
HALF_WIDTH = 1.349  # σ between the quartiles of a normal law


class Fusion(nn.Module, ABC):
    """A vector of an image and the features of its object to one vector.

    Attributes
    ----------
    num_out
        Length of that vector.
    gives_logit
        Whether the vector is one number, and that the logit of the second of two classes.
    """

    num_out: int
    gives_logit: ClassVar[bool] = False

    @abstractmethod
    def fit(self, features: Features, targets: Targets, seed: int, weights: Weights = None) -> None:
        """Learn from the training images what needs no gradients."""

    @abstractmethod
    def forward(self, pooled: Float[Tensor, "B P"], features: Float32[Tensor, "B F"]) -> Float[Tensor, "B Q"]:
        """Return the joined vector; a feature that is missing is NaN."""


class Scaled(nn.Module):
    """Features in units of their scatter over the training images, and for each whether it is missing.

    Median and quartiles are used: catalogues have outliers and flag values. A feature is cut off at ten units, a
    missing one is 0, the median, with an indicator of 1.

    Parameters
    ----------
    num_features
        F.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.median: Tensor
        self.scale: Tensor
        self.register_buffer("median", torch.zeros(num_features))
        self.register_buffer("scale", torch.ones(num_features))

    @torch.no_grad()
    def fit(self, features: Float32[Tensor, "N F"]) -> None:
        """Take medians and scatters; a column of one value, or of none, is left in its own unit."""
        quartiles = torch.nanquantile(features.double(), torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64), dim=0)
        low, middle, high = quartiles.nan_to_num()
        width = (high - low) / HALF_WIDTH
        spread = ((features.double() - middle) ** 2).nanmean(0).sqrt().nan_to_num()
        width = torch.where(width > 0, width, spread)  # most objects may share one value
        self.median.copy_(middle)
        self.scale.copy_(torch.where(width > 0, width, 1.0))

    def forward(self, features: Float32[Tensor, "B F"]) -> Float[Tensor, "B 2F"]:
        """Return scaled features and indicators."""
        missing = ~features.isfinite()
        scaled = ((features - self.median) / self.scale).clamp(-FARTHEST, FARTHEST)
        return torch.cat([scaled.masked_fill(missing, 0.0), missing.to(scaled)], 1)


class OfScaled(Fusion):
    """A fusion that reads scaled features and learns by gradients.

    Parameters
    ----------
    num_features
        F.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.scaled = Scaled(num_features)

    def fit(self, features: Features, targets: Targets, seed: int, weights: Weights = None) -> None:
        """Take the scale of the features, for which all count alike."""
        self.scaled.fit(features)


class Late(OfScaled):
    """Features through two linear layers, beside the image's vector.

    Parameters
    ----------
    num_pooled, num_features
        Lengths of both.
    """

    def __init__(self, num_pooled: int, num_features: int) -> None:
        super().__init__(num_features)
        self.encode = nn.Sequential(nn.Linear(2 * num_features, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, HIDDEN))
        self.num_out = num_pooled + HIDDEN

    def forward(self, pooled: Float[Tensor, "B P"], features: Float32[Tensor, "B F"]) -> Float[Tensor, "B Q"]:
        """Return both vectors, one after the other."""
        return torch.cat([pooled, self.encode(self.scaled(features))], 1)


class FiLM(OfScaled):
    """Features scale and shift every channel of the image's vector (Perez et al. 2018, AAAI, arXiv:1709.07871).

    On the pooled vector: of the last map, before a mean over places, it would be the same. The layer that makes
    scales and shifts begins at zero: at first the image speaks alone.

    Parameters
    ----------
    num_pooled, num_features
        Lengths of both.
    """

    def __init__(self, num_pooled: int, num_features: int) -> None:
        super().__init__(num_features)
        last = nn.Linear(HIDDEN, 2 * num_pooled)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.encode = nn.Sequential(nn.Linear(2 * num_features, HIDDEN), nn.GELU(), last)
        self.num_out = num_pooled

    def forward(self, pooled: Float[Tensor, "B P"], features: Float32[Tensor, "B F"]) -> Float[Tensor, "B Q"]:
        """Return the scaled and shifted vector."""
        scale, shift = self.encode(self.scaled(features)).chunk(2, dim=1)
        fused: Tensor = pooled * (1 + scale) + shift
        return fused
