"""The best linear filter: what can be had without a network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float64
from torch import Tensor

from deeplense.core.degradation import Degradation
from deeplense.core.errors import InvalidDataset
from deeplense.upscalers.upscaler import UPSCALERS, Coarse, Fine, Upscaler

SIZE = 7
RIDGE = 1e-9  # of the mean variance: for images of too few kinds
PIXELS = 1 << 16  # taken at once: 26 MB for one band


@UPSCALERS.register("linear")
class Linear(Upscaler):
    """The least-squares filter of the coarse pixels around, all bands of them, and a constant, for each fine pixel.

    The normal equations are added up over all pairs and solved once. Before that each pixel is repeated.

    Parameters
    ----------
    channels
        Bands of the images.
    degradation
        How the coarse images were made.
    size
        Coarse pixels on a side of the filter; odd.
    """

    trained: ClassVar[bool] = False
    reference: ClassVar[str] = "Romano et al. 2017, arXiv:1606.01299, with a single class of pixels"
    weight: Tensor
    bias: Tensor

    def __init__(self, channels: int, degradation: Degradation, *, size: int = SIZE) -> None:
        super().__init__(channels, degradation)
        self.size, self.reach = size, size // 2
        n_out = channels * self.factor**2
        repeat = torch.zeros(n_out, channels, size, size)
        repeat[torch.arange(n_out), torch.arange(n_out) // self.factor**2, self.reach, self.reach] = 1
        self.register_buffer("weight", repeat)
        self.register_buffer("bias", torch.zeros(n_out))

    def forward(self, low: Coarse) -> Fine:
        """Return the filtered images."""
        return F.pixel_shuffle(F.conv2d(self._padded(low), self.weight.to(low), self.bias.to(low)), self.factor)

    def fit(self, pairs: Iterator[tuple[Coarse, Fine]]) -> None:
        """Solve for the filters.

        Raises
        ------
        InvalidDataset
            When there are no pairs.
        """
        n_in, n_out = self.weight[0].numel(), len(self.weight)
        products = torch.zeros(n_in + n_out + 1, n_in + n_out + 1, dtype=torch.float64)
        for low, fine in pairs:
            for part in self._rows(low, fine):
                products += part.T @ part
        if products[-1, -1] == 0:
            raise InvalidDataset(
                "no pair of images to fit the linear filter to",
                "at least one coarse image with its fine one",
                "check that the training split is not empty",
            )
        weight, bias = _solved(products, n_in)
        self.weight.copy_(weight.reshape(self.weight.shape))
        self.bias.copy_(bias)

    def _rows(self, low: Coarse, fine: Fine) -> Iterator[Float64[Tensor, "pixels values"]]:
        """Return for each coarse pixel: those around it, the fine ones in it, and 1; in parts, on the CPU."""
        at_once = max(1, PIXELS // low[0, 0].numel())
        both = (torch.split(images.cpu().double(), at_once) for images in (low, fine))
        for coarse, wanted in zip(*both, strict=True):
            around = F.unfold(self._padded(coarse), self.size)
            within = F.pixel_unshuffle(wanted, self.factor).flatten(2)
            values = torch.cat([around, within, torch.ones_like(within[:, :1])], 1)
            yield values.transpose(1, 2).flatten(0, 1)

    def _padded(self, low: Coarse) -> Coarse:
        return F.pad(low, (self.reach,) * 4, mode="replicate")


def _solved(
    products: Float64[Tensor, "values values"], n_in: int
) -> tuple[Float64[Tensor, "out in"], Float64[Tensor, " out"]]:
    """Return filters and constants from the sums of products: of what is given, of what is wanted, of 1."""
    mean = products[-1, :-1] / products[-1, -1]
    covariance = products[:-1, :-1] / products[-1, -1] - torch.outer(mean, mean)
    given = covariance[:n_in, :n_in]
    ridge = RIDGE * given.diagonal().mean().clamp(min=torch.finfo(given.dtype).tiny)
    weight = torch.linalg.solve(given + ridge * torch.eye(n_in, dtype=given.dtype), covariance[:n_in, n_in:]).T
    return weight, mean[n_in:] - weight @ mean[:n_in]
