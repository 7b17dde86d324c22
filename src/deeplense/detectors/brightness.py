"""How much brighter or fainter than normal: a control for detectors that see nothing else."""

from __future__ import annotations

import torch
from torch import Tensor

from deeplense.data.transforms import Images
from deeplense.detectors.detector import DETECTORS, Detector, Effort, Normals, Scores, empty_buffer

BATCH = 256


@DETECTORS.register("brightness")
class Brightness(Detector):
    """The distance of the total flux from its mean over the normal images, in standard deviations.

    Parameters
    ----------
    image_shape
        (C, H, W).
    """

    raw = True
    reference = "a control, after Geirhos et al. 2020, Nature Machine Intelligence 2, 665 (shortcuts)"
    centre: Tensor
    deviation: Tensor

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        super().__init__(image_shape)
        self.register_buffer("centre", empty_buffer())
        self.register_buffer("deviation", empty_buffer())

    def fit(self, normals: Normals, effort: Effort) -> None:
        """Take the mean and the standard deviation of the total flux."""
        flux = torch.cat([total_flux(images) for images in normals.in_order(BATCH)])
        centre, deviation = flux.mean(), flux.std(correction=min(1, len(flux) - 1))
        # Where the flux is always the same, its unit is its own size.
        unit = next(unit for unit in (deviation, centre.abs(), torch.ones(())) if unit > 1e-9 * centre.abs())
        self.centre, self.deviation = (number.float().to(normals.device) for number in (centre, unit))

    def score(self, images: Images) -> Scores:
        """Return |flux − mean| / deviation."""
        apart = total_flux(images) - self.centre.cpu().double()
        return (apart.abs() / self.deviation.cpu().double()).float().to(images.device)


def total_flux(images: Images) -> Tensor:
    """Return the sum of all pixels [B], in double precision on the CPU."""
    return images.cpu().double().sum((1, 2, 3))
