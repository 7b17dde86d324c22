"""What happens to an image between disk and network: normalise, then (training only) augment. Batched."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from deeplense.core.config import Config

Images = Float[Tensor, "B C H W"]
NormalisationKind = Literal["none", "max", "min_max", "standard", "sqrt", "log", "asinh"]
Symmetry = Literal["none", "half_turn", "d4"]
SOFTENING = 3.0  # the asinh stretch turns from linear to logarithmic at this many σ of the background
TINY = 1e-12
KERNEL = 3.0  # the Gaussian of a blur is cut off at this many σ
SEEDS = 2**24  # as many as a random number of single precision can tell apart


@dataclass(frozen=True)
class Normalisation(Config):
    """A stretch and its numbers, fitted on training images and stored with the run.

    Parameters
    ----------
    kind
        "none"; "max" and "min_max" scale each image by itself; "standard" subtracts the training mean and divides by
        the training σ; "sqrt", "log" (log1p(10 x / scale) / log1p(10)) and "asinh" stretch first, then standardise.
    scale
        Unit of the stretch, in pixel values.
    mean, std
        Of the stretched training pixels. Each of the three is one number, or one per band.
    """

    kind: NormalisationKind
    scale: float | tuple[float, ...] = 1.0
    mean: float | tuple[float, ...] = 0.0
    std: float | tuple[float, ...] = 1.0

    def __call__(self, images: Images) -> Images:
        """Return the normalised images."""
        scale, mean, std = (_of_bands(value, images) for value in (self.scale, self.mean, self.std))
        return (_stretch(self.kind, images, scale) - mean) / std


def fit_normalisation(kind: NormalisationKind, images: Images) -> Normalisation:
    """Return the normalisation of a sample of training images, of each band by itself.

    For "asinh" the scale is 3 σ of the background, estimated by the median absolute deviation; for "sqrt" and "log" it
    is the 99.9th percentile of the absolute values.
    """
    if kind in ("none", "max", "min_max"):
        return Normalisation(kind)
    bands = [_fit_band(kind, band) for band in images.unbind(1)]
    if len(bands) == 1:
        return Normalisation(kind, *bands[0])
    scales, means, deviations = zip(*bands, strict=True)
    return Normalisation(kind, scales, means, deviations)


def _fit_band(kind: NormalisationKind, images: Float[Tensor, "B H W"]) -> tuple[float, float, float]:
    """Return scale of the stretch, mean and deviation of what is stretched, of one band."""
    scale = 1.0
    pixels = images.flatten()[:: max(1, images.numel() // 2_000_000)].double()
    if kind == "asinh":
        deviation = 1.4826 * float((pixels - pixels.median()).abs().median())
        scale = SOFTENING * (deviation or float(pixels.std()) / 10) or 1.0
    elif kind != "standard":
        scale = float(pixels.abs().kthvalue(max(1, int(0.999 * pixels.numel()))).values) or 1.0
    stretched = _stretch(kind, pixels.reshape(1, 1, 1, -1), scale)
    return scale, float(stretched.mean()), float(stretched.std()) or 1.0


def _of_bands(value: float | tuple[float, ...], images: Images) -> float | Float[Tensor, "C 1 1"]:
    """Return a number, or one per band in the shape that images take."""
    return value if isinstance(value, float) else images.new_tensor(value)[:, None, None]


def _stretch(kind: NormalisationKind, images: Images, scale: float | Float[Tensor, "C 1 1"]) -> Images:
    stretch: dict[str, Callable[[], Tensor]] = {
        "none": lambda: images,
        "standard": lambda: images,
        "max": lambda: images / images.amax((1, 2, 3), keepdim=True).clamp(min=TINY),
        "min_max": lambda: _min_max(images),
        "sqrt": lambda: images.sign() * (images.abs() / scale).sqrt(),
        "log": lambda: images.sign() * torch.log1p(10 * images.abs() / scale) / math.log1p(10),
        "asinh": lambda: torch.asinh(images / scale),
    }
    return stretch[kind]()


def _min_max(images: Images) -> Images:
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    return (images - low) / (high - low).clamp(min=TINY)


@dataclass(frozen=True)
class Augmentation(Config):
    """Random changes that leave the label as it is.

    Parameters
    ----------
    symmetry
        "half_turn": rotation by 180°, exact for Models I–III. "d4": all flips and quarter turns, exact where the sky
        has no preferred direction.
    rotation
        Largest random rotation [degrees]; interpolates.
    zoom
        Largest random magnification and demagnification, 1 for none; interpolates and changes the Einstein radius.
    blur
        Largest σ of a random Gaussian blur [pixels], 0 for none.
    noise
        Largest standard deviation of random Gaussian noise [normalised pixel values], 0 for none; comes last.
    """

    symmetry: Symmetry = "none"
    rotation: float = 0.0
    zoom: float = 1.0
    blur: float = 0.0
    noise: float = 0.0

    def draw(self, n: int, generator: torch.Generator) -> Float[Tensor, "n k"]:
        """Return the random numbers of n images: on the CPU, for a whole batch, whatever device uses them."""
        numbers = torch.rand(n, 4, generator=generator)
        # two more where they are needed: without noise, runs are as they were before there was any
        return torch.cat([numbers, torch.rand(n, 2, generator=generator)], 1) if self.noise > 0 else numbers

    def apply(self, images: Images, numbers: Float[Tensor, "B k"]) -> Images:
        """Return the changed images; numbers are for symmetry, rotation, zoom, blur, amount and seed of the noise."""
        images = _apply_symmetry(images, self.symmetry, numbers[:, 0].to(images))
        if self.rotation != 0 or self.zoom != 1:
            images = self._turned(images, numbers)
        if self.blur > 0:
            images = _blurred(images, self.blur * numbers[:, 3], math.ceil(KERNEL * self.blur))
        if self.noise > 0:
            amount = self.noise * numbers[:, 4].to(images)
            images = images + amount[:, None, None, None] * _noise(images, numbers[:, 5])
        return images

    def _turned(self, images: Images, numbers: Float[Tensor, "B k"]) -> Images:
        """Return the images rotated and zoomed."""
        angle = math.radians(self.rotation) * (2 * numbers[:, 1] - 1)
        zoom = torch.exp(math.log(self.zoom) * (2 * numbers[:, 2] - 1))
        cos, sin, zero = torch.cos(angle) / zoom, torch.sin(angle) / zoom, torch.zeros_like(zoom)
        aspect = images.shape[2] / images.shape[3]  # the grid runs from -1 to 1 along either side
        matrix = torch.stack(
            [torch.stack([cos, -sin * aspect, zero], 1), torch.stack([sin / aspect, cos, zero], 1)], 1
        ).to(images)
        grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _blurred(images: Images, sigma: Float[Tensor, " B"], reach: int) -> Images:
    """Return the images blurred by a Gaussian of each one's own σ, cut off after `reach` pixels; edges go on."""
    x = torch.arange(-reach, reach + 1, device=sigma.device)
    weights = torch.exp(-(x**2) / (2 * sigma[:, None] ** 2).clamp(min=TINY))
    weights = (weights / weights.sum(1, keepdim=True)).to(images)[:, :, None, None, None]
    for axis, margins in ((2, (0, 0, reach, reach)), (3, (reach, reach, 0, 0))):
        size, padded = images.shape[axis], F.pad(images, margins, mode="replicate")
        # sums of shifted images, not a convolution: that may round otherwise in a batch than alone
        images = sum((weights[:, k] * padded.narrow(axis, k, size) for k in range(len(x))), torch.zeros_like(images))
    return images


def _noise(images: Images, seeds: Float[Tensor, " B"]) -> Images:
    """Return normal deviates, each image's from its own seed: the same on every device, in any share of a batch."""
    generator = torch.Generator()
    shape = images.shape[1:]
    drawn = [torch.randn(shape, generator=generator.manual_seed(int(SEEDS * seed))) for seed in seeds.tolist()]
    return torch.stack(drawn).to(images)


def _apply_symmetry(images: Images, symmetry: Symmetry, number: Float[Tensor, " B"]) -> Images:
    if symmetry == "none":
        return images
    if symmetry == "half_turn":
        return torch.where(number[:, None, None, None] < 0.5, images, images.flip(2, 3))
    eighth = (8 * number).long()[:, None, None, None]
    images = torch.where(eighth % 2 == 0, images, images.flip(3))
    images = torch.where(eighth // 2 % 2 == 0, images, images.flip(2))
    return torch.where(eighth // 4 == 0, images, images.transpose(2, 3))


def symmetric_copies(images: Images, symmetry: Symmetry) -> list[Images]:
    """Return the images and all that the symmetry makes of them: 1, 2 or 8 copies."""
    copies = [images]
    if symmetry == "half_turn":
        copies += [images.flip(2, 3)]
    if symmetry == "d4":
        copies += [images.flip(3)]
        copies += [copy.flip(2) for copy in copies]
        copies += [copy.transpose(2, 3) for copy in copies]
    return copies


def turned_back(copies: list[Images], symmetry: Symmetry) -> list[Images]:
    """Return what `symmetric_copies` made, each turned back."""
    if symmetry == "half_turn":
        return [copies[0], copies[1].flip(2, 3)]
    upright = [copy.transpose(2, 3) if k >= 4 else copy for k, copy in enumerate(copies)]
    upright = [copy.flip(2) if k // 2 % 2 else copy for k, copy in enumerate(upright)]
    return [copy.flip(3) if k % 2 else copy for k, copy in enumerate(upright)]


def part_taken(images: Tensor, bands: Sequence[int] | None, crop: int | None) -> Tensor:
    """Return what a network takes of images [..., C, H, W]: some bands in their order, the central pixels."""
    if bands is not None:
        images = images[..., list(bands), :, :]
    return (images if crop is None else centre_crop(images, crop)).contiguous()


def centre_crop(images: Float[Tensor, "*B H W"], size: int) -> Float[Tensor, "*B size size"]:
    """Return the central size × size pixels; an odd remainder goes to the lower right."""
    top, left = ((side - size) // 2 for side in images.shape[-2:])
    return images[..., top : top + size, left : left + size]
