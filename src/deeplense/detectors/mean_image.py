"""How far each pixel lies from its mean over the normal images."""

from __future__ import annotations

import torch
from torch import Tensor

from deeplense.data.transforms import Images
from deeplense.detectors.detector import DETECTORS, Detector, Effort, Normals, Scores, empty_buffer

BATCH = 256
FLOOR = 0.1  # of the median deviation of a band: a pixel that hardly varies must not outvote all the others


@DETECTORS.register("mean_image")
class MeanImage(Detector):
    """The mean squared deviation from the mean normal image, in units of each pixel's own variance.

    Parameters
    ----------
    image_shape
        (C, H, W).
    """

    reference = "Chandola, Banerjee & Kumar 2009, ACM Computing Surveys 41, 15 (a Gaussian for each pixel)"
    centre: Tensor
    deviation: Tensor

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        super().__init__(image_shape)
        self.register_buffer("centre", empty_buffer())
        self.register_buffer("deviation", empty_buffer())

    def fit(self, normals: Normals, effort: Effort) -> None:
        """Take the mean and the standard deviation of every pixel, in one pass."""
        start = normals.sample(1)[0].cpu().double()  # sums of differences from an image lose no digits to the mean
        total, squares, count = torch.zeros_like(start), torch.zeros_like(start), 0
        for images in normals.in_order(BATCH):
            apart = images.cpu().double() - start
            total, squares, count = total + apart.sum(0), squares + apart.square().sum(0), count + len(images)
        variance = (squares - total.square() / count) / max(1, count - 1)
        self.centre = (start + total / count).float().to(normals.device)
        self.deviation = floored(variance.clamp(min=0).sqrt()).float().to(normals.device)

    def score(self, images: Images) -> Scores:
        """Return the mean over pixels of ((x − mean) / deviation)²."""
        return self._deviations(images).mean((1, 2, 3))

    def map(self, images: Images) -> Tensor:
        """Return the same of each pixel, bands added up."""
        return self._deviations(images).sum(1, keepdim=True)

    def _deviations(self, images: Images) -> Tensor:
        return ((images - self.centre) / self.deviation).square()


def floored(deviation: Tensor) -> Tensor:
    """Return the deviations of pixels [C, H, W], none below a tenth of its band's median.

    Where most pixels of a band never vary, the median is replaced by the root mean square; where none does, by 1.
    """
    bands = deviation.flatten(1)
    typical = bands.median(1).values
    typical = torch.where(typical > 0, typical, bands.square().mean(1).sqrt())
    least = FLOOR * torch.where(typical > 0, typical, torch.ones_like(typical))
    return deviation.maximum(least[:, None, None])
