"""What an image holds at each spatial frequency, and whether a network has left its grid in it."""

from __future__ import annotations

import itertools

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from deeplense.core.errors import InvalidOption
from deeplense.metrics.image import Images, PerImage, exact, precision

NYQUIST = 0.5  # cycles per pixel
ROUNDING = 1e-9
LEAST_PERIODS = 8  # of a grid, along either side of an image that is searched for it
NEAR, INNER, OUTER = 1 / 16, 1 / 4, 3 / 8  # of the distance between two frequencies of a grid
FAINT = 1e-3  # of the mean power: less is no artefact that anyone sees


def power_spectrum(images: Images, bins: int | None = None) -> tuple[Float[Tensor, " K"], Float[Tensor, "B K"]]:
    """Return the spatial frequencies [cycles per pixel] and the power of each image at them, up to Nyquist's.

    Power is |Fourier transform|² / number of pixels, averaged over bands and over all directions: white noise of
    variance v has power v at every frequency. The mean of an image is left out, and so are the corners of the Fourier
    plane above ½ cycle per pixel. There is no window: an image that does not end as it begins has the power of that
    step too.

    Parameters
    ----------
    images
        At least 2 pixels a side.
    bins
        K, bins of equal width; by default, and at most, half the number of pixels of the shorter side. The frequency
        of a bin is the mean of those in it.

    Raises
    ------
    InvalidOption
        More bins than the images resolve, or none.
    """
    height, width = images.shape[2:]
    most = min(height, width) // 2
    number = most if bins is None else bins
    if not 1 <= number <= most:
        raise InvalidOption(
            f"{number} bins of frequency for images of {height} × {width} pixels",
            f"1 to {most}, half of the shorter side" if most else "images of at least 2 × 2 pixels",
            "ask for fewer bins",
        )
    y, x = _frequencies(images)
    radius = torch.hypot(y, x)
    kept = (radius > 0) & (radius <= NYQUIST + ROUNDING)
    index = (torch.ceil(radius[kept] * (number / NYQUIST) - ROUNDING) - 1).long()
    counts = torch.bincount(index, minlength=number)
    frequencies = torch.bincount(index, radius[kept], minlength=number) / counts
    modes = _power(images)[:, kept]
    power = modes.new_zeros(len(images), number).index_add(1, index, modes)
    return frequencies, power / counts


def checkerboard(images: Images, factor: int) -> PerImage:
    """Return [B] how far the frequencies of a grid of `factor` pixels stand out from those around them; 1 if not.

    What is periodic in `factor` pixels, as the marks of nearest neighbours or of a transposed convolution are, has its
    power about the frequencies (j, k) / factor. The score is the mean power within 1/16 of the distance between two of
    them, (0, 0) left out, divided by the mean power in frames around them, from 1/4 to 3/8 of that distance. It is 1
    for white noise, and 1 or less for a smooth image, whose power falls toward high frequencies: to be read beside the
    score of the true image. Power below 10⁻³ of the mean counts as that much; a Hann window keeps the image's border
    out.

    Parameters
    ----------
    images
        Sides are multiples of the factor, at least 8 of them.
    factor
        Fine pixels per coarse pixel and axis.

    Raises
    ------
    InvalidOption
        When the factor is below 2 or does not fit the images.

    References
    ----------
    Odena, Dumoulin & Olah 2016, Distill, doi:10.23915/distill.00003: where such patterns come from. The score is ours.
    """
    height, width = images.shape[2:]
    if factor < 2 or height % factor or width % factor or min(height, width) < LEAST_PERIODS * factor:
        raise InvalidOption(
            f"images of {height} × {width} pixels for a factor of {factor}",
            "a factor of 2 or more, and sides that are multiples of it, at least 8 of them",
            "give the factor by which the images were made finer",
        )
    power: Tensor = _power(_windowed(exact(images)))
    near, around = _lattice(images, factor)
    faint = FAINT * power.mean((1, 2))
    score: Tensor = (power[:, near].mean(1) + faint) / (power[:, around].mean(1) + faint)
    return torch.where(faint == 0, 1.0, score)  # an image of one value has no pattern


def _frequencies(images: Images) -> tuple[Float[Tensor, "H 1"], Float[Tensor, "1 W"]]:
    kind = precision(images.device)
    y, x = (torch.fft.fftfreq(n, dtype=kind, device=images.device) for n in images.shape[2:])
    return y[:, None], x[None, :]


def _power(images: Images) -> Float[Tensor, "B H W"]:
    amplitudes: Tensor = torch.fft.fft2(exact(images), norm="ortho")
    return amplitudes.abs().square().mean(1)


def _windowed(images: Images) -> Images:
    """Return the images less their mean, faded out toward the border."""
    y, x = (torch.hann_window(n, dtype=images.dtype, device=images.device) for n in images.shape[2:])
    window = y[:, None] * x
    return (images - (images * window).sum((2, 3), keepdim=True) / window.sum()) * window


def _lattice(images: Images, factor: int) -> tuple[Bool[Tensor, "H W"], Bool[Tensor, "H W"]]:
    """Return which frequencies lie near those of the grid, and which in the frames around them."""
    y, x = _frequencies(images)
    step = 1 / min(images.shape[2:])
    near = torch.zeros(images.shape[2:], dtype=torch.bool, device=images.device)
    around = near.clone()
    for j, k in itertools.product(range(factor), repeat=2):
        if (j, k) == (0, 0):
            continue
        distance = torch.maximum(_circular(y - j / factor), _circular(x - k / factor))
        # the window spreads a pure pattern over one step to either side
        near |= distance <= max(NEAR / factor, step) + ROUNDING
        around |= (distance >= INNER / factor - ROUNDING) & (distance <= OUTER / factor + ROUNDING)
    return near, around


def _circular(frequency: Float[Tensor, "*size"]) -> Float[Tensor, "*size"]:
    return (frequency - frequency.round()).abs()
