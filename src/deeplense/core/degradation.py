"""How a fine image becomes a coarse one: what super-resolution is asked to undo. Linear and local."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64
from torch import Tensor

from deeplense.core.config import Bounds, Config
from deeplense.core.errors import InvalidOption

Method = Literal["bicubic", "area", "gaussian"]
KEPT = 4.0  # the Gaussian is cut off at this many σ


@dataclass(frozen=True)
class Degradation(Config):
    """A linear map from images to images of `factor` times fewer pixels a side.

    Parameters
    ----------
    factor
        Fine pixels per coarse pixel and axis.
    method
        "bicubic": a resize with a = −0.75 and no antialiasing, which keeps the noise; "area": the mean of each block;
        "gaussian": a blur, as by a wider point-spread function, before that mean.
    blur
        σ of that Gaussian [fine pixels].
    """

    factor: Annotated[int, Bounds(2, 16)] = 2
    method: Method = "bicubic"
    blur: Annotated[float, Bounds(0, 64)] = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.method == "gaussian") != (self.blur > 0):
            raise InvalidOption(
                f"a blur of {self.blur:g} pixels with the method {self.method}",
                'a blur above 0 with method = "gaussian", and none with others',
                "change one of them",
            )

    def __call__(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C h w"]:
        """Return the coarse images, in the unit of the fine ones: surface brightness is kept, not the sum."""
        if self.method == "bicubic":
            return F.interpolate(images, scale_factor=1 / self.factor, mode="bicubic", align_corners=False)
        if self.method == "gaussian":
            images = _blurred(images, self.blur)
        return F.avg_pool2d(images, self.factor)

    def along(self, size: int) -> Float64[Tensor, "h H"]:
        """Return the matrix that does the same along one axis of `size` coarse pixels; the map is A x Aᵀ."""
        return _along(self, size)


@lru_cache(maxsize=64)
def _along(degradation: Degradation, size: int) -> Float64[Tensor, "h H"]:
    n = size * degradation.factor
    columns = torch.eye(n, dtype=torch.float64)[:, None, :, None].expand(-1, 1, -1, n)  # constant along the other axis
    return degradation(columns)[:, 0, :, 0].T.contiguous()


def _blurred(images: Float[Tensor, "B C H W"], sigma: float) -> Float[Tensor, "B C H W"]:
    reach = math.ceil(KEPT * sigma)
    if reach == 0:
        return images
    x = torch.arange(-reach, reach + 1, dtype=torch.float64)
    taps = torch.exp(-(x**2) / (2 * sigma**2))
    taps = (taps / taps.sum()).to(images)
    channels = images.shape[1]
    for axis, margins in ((2, (0, 0, reach, reach)), (3, (reach, reach, 0, 0))):
        shape = (channels, 1, -1, 1) if axis == 2 else (channels, 1, 1, -1)
        kernel = taps.reshape(1, 1, *shape[2:]).expand(channels, -1, -1, -1)
        images = F.conv2d(F.pad(images, margins, mode="replicate"), kernel, groups=channels)
    return images
