"""From a scene to its expected image: sample on the pixel grid, convolve with the PSF. No noise here."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from deeplense.instruments.instrument import Instrument
from deeplense.sky.scene import Scene

SIGMA_PER_FWHM = 1 / (2 * math.sqrt(2 * math.log(2)))


def pixel_grid(n_pixels: int, pixel_scale: float, like: Tensor) -> tuple[Float[Tensor, "1 n"], Float[Tensor, "n 1"]]:
    """Return the pixel centres (x, y) [arcsec], symmetric about 0; rows are y, no flip."""
    offsets = torch.arange(n_pixels, dtype=torch.float64) - (n_pixels - 1) / 2
    axis = (offsets * pixel_scale).to(like)
    return axis[None, :], axis[:, None]


def expose(scene: Scene, instrument: Instrument, n_pixels: int, like: Tensor) -> Float[Tensor, "*B H W"]:
    """Return the expected image: surface brightness at the pixel centres × pixel area, convolved with the PSF.

    Parameters
    ----------
    scene
        A batch of scenes, or one.
    instrument
        Pixel scale and PSF.
    n_pixels
        Side of the image.
    like
        Tensor whose dtype and device the image takes.
    """
    x, y = pixel_grid(n_pixels, instrument.pixel_scale, like)
    flux = scene.surface_brightness(x, y) * instrument.pixel_scale**2
    return convolve_separable(flux, gaussian_taps(instrument))


def gaussian_taps(instrument: Instrument) -> list[float]:
    """Return the taps of the PSF along one axis, normalised to 1, cut at `psf_truncation` σ (scipy.ndimage's rule)."""
    sigma = instrument.psf_fwhm * SIGMA_PER_FWHM / instrument.pixel_scale
    radius = int(instrument.psf_truncation * sigma + 0.5)
    taps = [math.exp(-0.5 * (k / sigma) ** 2) if sigma else 1.0 for k in range(-radius, radius + 1)]
    return [tap / math.fsum(taps) for tap in taps]


def convolve_separable(image: Float[Tensor, "*B H W"], taps: list[float]) -> Float[Tensor, "*B H W"]:
    """Return the image convolved along both axes by symmetric taps, edge pixels replicated.

    A sum of shifted copies: every pixel is computed by the same operations whatever the batch, so images do not depend
    on how many are made at once.
    """
    radius = len(taps) // 2
    for axis in (-2, -1):
        first, last = image.narrow(axis, 0, 1), image.narrow(axis, image.shape[axis] - 1, 1)
        padded = torch.cat([first] * radius + [image] + [last] * radius, dim=axis)
        size = image.shape[axis]
        image = taps[radius] * padded.narrow(axis, radius, size)
        for k in range(1, radius + 1):
            pair = padded.narrow(axis, radius - k, size) + padded.narrow(axis, radius + k, size)
            image = torch.add(image, pair, alpha=taps[radius + k])
    return image
