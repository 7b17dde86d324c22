"""What the principal components of normal images do not explain."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from deeplense.data.transforms import Images
from deeplense.detectors.detector import DETECTORS, Detector, Effort, Normals, Scores, empty_buffer
from deeplense.detectors.mean_image import floored

BATCH = 256
LARGEST = 64  # pixels a side: larger images are averaged down to it, for the sake of a matrix that fits
SAMPLE = 4000  # images: the matrix of their products takes 128 MB
COMPONENTS = 64
IMAGES_PER_COMPONENT = 4  # fewer, and the components would learn the noise of single images


@DETECTORS.register("pca")
class PrincipalComponents(Detector):
    """The mean squared residual outside the principal components, in units of each pixel's residual variance.

    Up to 4,000 normal images, evenly spaced and averaged down to at most 64 × 64 pixels, give the components, exactly;
    their number is 64, or a quarter of the number of images or of values if that is less.

    Parameters
    ----------
    image_shape
        (C, H, W).
    """

    reference = "Jackson & Mudholkar 1979, Technometrics 21, 341"
    centre: Tensor
    components: Tensor
    deviation: Tensor

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        super().__init__(image_shape)
        self.factor = pooling(image_shape)
        for name in ("centre", "components", "deviation"):
            self.register_buffer(name, empty_buffer())

    def fit(self, normals: Normals, effort: Effort) -> None:
        """Take the components, and the variance that each pixel has outside them."""
        images = pooled_sample(normals, self.factor)
        values = images.flatten(1)
        centre, components, _ = principal_components(values, COMPONENTS)
        self.centre, self.components = centre, components
        freedom = max(1, len(values) - 1 - len(components))
        variance = self._residual(images).double().cpu().square().sum(0) / freedom
        self.deviation = floored(variance.sqrt()).float().to(values.device)

    def score(self, images: Images) -> Scores:
        """Return the mean over pixels of (residual / deviation)²."""
        return self._deviations(images).mean((1, 2, 3))

    def map(self, images: Images) -> Tensor:
        """Return the same of each averaged pixel, bands added up."""
        small = self._deviations(images).sum(1, keepdim=True)
        wide = small.repeat_interleave(self.factor, 2).repeat_interleave(self.factor, 3)
        return wide[:, :, : self.image_shape[1], : self.image_shape[2]]

    def _deviations(self, images: Images) -> Tensor:
        return (self._residual(pooled(images, self.factor)) / self.deviation).square()

    def _residual(self, images: Images) -> Tensor:
        values = images.flatten(1) - self.centre
        return (values - values @ self.components.T @ self.components).reshape(images.shape)


def pooling(image_shape: tuple[int, int, int]) -> int:
    """Return how many pixels a side are averaged, so that 64 × 64 at most are left."""
    return math.ceil(max(image_shape[1:]) / LARGEST)


def pooled(images: Images, factor: int) -> Images:
    """Return the images averaged over squares; an incomplete square at the edge over what there is of it."""
    return images if factor == 1 else F.avg_pool2d(images, factor, ceil_mode=True)


def pooled_sample(normals: Normals, factor: int) -> Images:
    """Return up to 4,000 normal images, evenly spaced, averaged over squares of pixels."""
    number = torch.linspace(0, len(normals) - 1, min(SAMPLE, len(normals)), dtype=torch.float64).round().long()
    wanted = torch.zeros(len(normals), dtype=torch.bool)
    wanted[number] = True
    parts = torch.split(wanted, BATCH)
    chosen = [
        pooled(images[kept.to(images.device)], factor)
        for kept, images in zip(parts, normals.in_order(BATCH), strict=True)
        if kept.any()
    ]
    return torch.cat(chosen)


def principal_components(
    values: Float[Tensor, "N D"], most: int
) -> tuple[Float[Tensor, " D"], Float[Tensor, "K D"], Float[Tensor, " K"]]:
    """Return the mean, the leading principal components and the variance along each, largest first.

    Parameters
    ----------
    values
        One row per image.
    most
        Largest number of components; there are no more than a quarter of N and of D, and none without variance.
    """
    n, d = values.shape
    centre = values.cpu().double().mean(0)
    # One machine's arithmetic for every device: an accelerator may lack the precision.
    apart = values.cpu().double() - centre
    product = apart @ apart.T if n < d else apart.T @ apart
    spectrum, vectors = torch.linalg.eigh(product)
    count = max(1, min(most, n // IMAGES_PER_COMPONENT, d // IMAGES_PER_COMPONENT))
    kept = spectrum.flip(0)[:count] > 1e-10 * spectrum[-1].clamp(min=1e-300)
    leading = vectors.flip(1)[:, :count][:, kept]
    rows = (apart.T @ leading).T if n < d else leading.T
    components = rows / rows.norm(dim=1, keepdim=True)
    variance = spectrum.flip(0)[:count][kept] / max(1, n - 1)
    return centre.float().to(values.device), components.float().to(values.device), variance.float().to(values.device)
