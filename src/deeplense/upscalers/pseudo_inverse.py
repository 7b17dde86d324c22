"""The fine image of least norm among those whose degradation is the coarse one, and filters that give such images."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float64
from torch import Tensor, nn

from deeplense.core.degradation import KEPT, Degradation
from deeplense.core.errors import InvalidOption
from deeplense.upscalers.upscaler import UPSCALERS, Coarse, Fine, Upscaler

Near = Literal["nothing", "bicubic"]
CUT = 1e-6  # of the taps' absolute sum may be left out
FARTHEST = 24  # coarse pixels: an inverse that reaches farther amplifies noise by ten
AXIS = 97  # coarse pixels: its ends are twice as far from its middle


class ConsistentFilter(nn.Module):
    """A separable filter to fine images whose degradation is the coarse one, edge pixels repeated.

    Of all such images it makes the one nearest to nothing or to bicubic interpolation, nearest along each axis in turn.
    Exact in the interior but for what is cut off; in single precision at least, also under autocast.

    Parameters
    ----------
    degradation
        What is inverted.
    near
        What the image is nearest to.

    Attributes
    ----------
    reach
        In coarse pixels.

    Raises
    ------
    InvalidOption
        When the inverse reaches too far.
    """

    taps: Tensor

    def __init__(self, degradation: Degradation, near: Near) -> None:
        super().__init__()
        taps = consistent_taps(degradation, near)
        self.factor, self.reach = degradation.factor, taps.shape[1] // 2
        self.register_buffer("taps", taps.float(), persistent=False)  # known from the degradation

    def forward(self, low: Coarse) -> Fine:
        """Return the fine images."""
        (b, c, h, w), f, reach = low.shape, self.factor, self.reach
        with torch.autocast(low.device.type, enabled=False):  # bfloat16 would break the exactness
            plane = low.to(torch.promote_types(low.dtype, torch.float32)).reshape(b * c, 1, h, w)
            plane = F.pad(plane, (reach,) * 4, mode="replicate")
            taps = self.taps.to(plane)[:, None, :, None]
            tall = F.conv2d(plane, taps).transpose(1, 2).reshape(b * c, 1, h * f, w + 2 * reach)
            both = F.conv2d(tall, taps.transpose(2, 3)).permute(0, 2, 3, 1)
            return both.reshape(b, c, h * f, w * f)


@lru_cache(maxsize=64)
def consistent_taps(degradation: Degradation, near: Near) -> Float64[Tensor, "f taps"]:
    """Return the filter of each fine pixel in a coarse one, of the coarse pixels around it.

    They are rows, from the middle of a long axis, of M = N + A⁺ (1 − A N): A the degradation, N what the image is to be
    near to, so that A M = 1.

    Raises
    ------
    InvalidOption
        When the inverse reaches too far.
    """
    factor, middle = degradation.factor, AXIS // 2
    if degradation.blur > factor:  # no need to try
        raise _too_wide(degradation)
    down = _toeplitz(degradation)
    inverse = torch.linalg.pinv(down)
    if near == "bicubic":
        columns = torch.eye(AXIS, dtype=torch.float64)[:, None, :, None]
        up = F.interpolate(columns, scale_factor=(factor, 1), mode="bicubic", align_corners=False)[:, 0, :, 0].T
        inverse = up + inverse @ (torch.eye(AXIS, dtype=torch.float64) - down @ up)
    rows = inverse[middle * factor : (middle + 1) * factor]
    size = rows.abs()
    for reach in range(FARTHEST + 1):
        kept = slice(middle - reach, middle + reach + 1)
        if size.sum() - size[:, kept].sum() < CUT * size.sum():
            taps: Tensor = rows[:, kept].contiguous()
            return taps
    raise _too_wide(degradation)


def _toeplitz(degradation: Degradation) -> Float64[Tensor, "h H"]:
    """Return what `Degradation.along` would, of an axis too long to ask it: its middle row, repeated."""
    factor = degradation.factor
    middle = math.ceil(KEPT * degradation.blur / factor) + 2
    stencil = degradation.along(2 * middle + 1)[middle]
    matrix = torch.zeros(AXIS, (AXIS + 2 * middle) * factor, dtype=torch.float64)
    for k in range(AXIS):
        matrix[k, k * factor : k * factor + len(stencil)] = stencil
    return matrix[:, middle * factor : -middle * factor]


def _too_wide(degradation: Degradation) -> InvalidOption:
    return InvalidOption(
        f"a blur of {degradation.blur:g} pixels and a factor of {degradation.factor}, whose inverse amplifies noise",
        f"an inverse that reaches at most {FARTHEST} coarse pixels",
        "choose a model that does not invert the degradation, or a smaller blur",
    )


@UPSCALERS.register("pseudo_inverse")
class PseudoInverse(Upscaler):
    """The minimum-norm image whose degradation is exactly the coarse one.

    Linear. A constant image stays that constant where every fine pixel of a coarse one weighs the same in the
    degradation: for the area method, and for bicubic of factor 2.

    Raises
    ------
    InvalidOption
        When the inverse reaches too far.
    """

    trained: ClassVar[bool] = False
    reference: ClassVar[str] = "Penrose 1956, Math. Proc. Cambridge Philos. Soc. 52, 17"
    near: ClassVar[Near] = "nothing"

    def __init__(self, channels: int, degradation: Degradation) -> None:
        super().__init__(channels, degradation)
        self.filter = ConsistentFilter(degradation, self.near)
        self.reach = self.filter.reach

    def forward(self, low: Coarse) -> Fine:
        """Return the fine images."""
        fine: Fine = self.filter(low)
        return fine
