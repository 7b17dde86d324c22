"""The contract of everything that makes an image finer, and the registry of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from deeplense.core.degradation import Degradation
from deeplense.core.registry import Registry

Coarse = Float[Tensor, "B C h w"]
Fine = Float[Tensor, "B C H W"]


class Upscaler(nn.Module, ABC):
    """Coarse images to images of `factor` times more pixels a side; pixel values in one linear unit, of any size.

    What it computes is local: a fine pixel depends on no coarse one farther than `reach` from the one that it lies in,
    so a large image may be cut into tiles. Nothing is clipped.

    Parameters
    ----------
    channels
        Bands of the images.
    degradation
        How the coarse images were made; `factor` is its.

    Attributes
    ----------
    trained
        Whether it learns by gradients; others are fixed, or fitted by `fit`.
    adversary
        Weight of an opponent that it is trained against, unless another is asked for, in units of the noise.
    reach
        In coarse pixels.
    alignment
        Coarse pixels on whose multiples a tile must start, where the network has a coarser grid of its own.
    reference
        Paper that it is from.
    """

    trained: ClassVar[bool] = True
    adversary: ClassVar[float] = 0.0
    reference: ClassVar[str]
    reach: int
    alignment: int = 1

    def __init__(self, channels: int, degradation: Degradation) -> None:
        super().__init__()
        self.channels, self.degradation, self.factor = channels, degradation, degradation.factor

    @abstractmethod
    def forward(self, low: Coarse) -> Fine:
        """Return the fine images."""

    def fit(self, pairs: Iterator[tuple[Coarse, Fine]]) -> None:
        """Fit what does not learn by gradients to coarse images and the fine ones that are wanted, batch by batch."""
        return None


UPSCALERS: Registry[Callable[..., Upscaler]] = Registry("super-resolution model", "deeplense.upscalers")
