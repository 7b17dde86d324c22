"""From a scene to its expected image: sample, convolve with the PSF, bin to detector pixels. No noise here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from deeplense.core.compiled import EAGER, Runner
from deeplense.instruments.instrument import Instrument
from deeplense.instruments.psf import SIGMA_PER_FWHM as SIGMA_PER_FWHM
from deeplense.instruments.psf import check_supersampling, kernel
from deeplense.instruments.psf import gaussian_taps as gaussian_taps
from deeplense.sky.mass import MassProfile, Tabulated
from deeplense.sky.scene import Scene


def pixel_grid(n_pixels: int, pixel_scale: float, like: Tensor) -> tuple[Float[Tensor, "1 n"], Float[Tensor, "n 1"]]:
    """Return the pixel centres (x, y) [arcsec], symmetric about 0; rows are y, no flip."""
    offsets = torch.arange(n_pixels, dtype=torch.float64) - (n_pixels - 1) / 2
    axis = (offsets * pixel_scale).to(like)
    return axis[None, :], axis[:, None]


def sample_grid(
    instrument: Instrument, n_pixels: int, supersampling: int, like: Tensor
) -> tuple[Float[Tensor, "1 n"], Float[Tensor, "n 1"]]:
    """Return where the sky is sampled (x, y) [arcsec]: the centres of `supersampling`² parts of every pixel."""
    check_supersampling(supersampling)
    return pixel_grid(n_pixels * supersampling, instrument.pixel_scale / supersampling, like)


def expose(
    scene: Scene,
    instruments: Sequence[Instrument],
    n_pixels: int,
    like: Tensor,
    supersampling: int = 1,
    run: Runner = EAGER,
) -> Float[Tensor, "B C H W"]:
    """Return the expected image: surface brightness × pixel area, convolved with the PSF, summed over each pixel.

    The brightness is sampled at the centres of `supersampling`² parts of a pixel, and the PSF acts on these. With one
    sample (the default) a pixel has the brightness of its centre.

    Parameters
    ----------
    scene
        A batch of scenes, or one.
    instruments
        Pixel scale and PSF of each band; the bands share one pixel grid.
    n_pixels
        Side of the image.
    like
        Tensor whose dtype and device the image takes.
    supersampling
        Samples per pixel and axis.
    run
        How the formulas are run.

    Raises
    ------
    InvalidOption
        When `supersampling` is not a whole number from 1, or finer than the PSF is known.
    """
    x, y = sample_grid(instruments[0], n_pixels, supersampling, like)
    if run.compiled:
        scene = _blocks_added(scene, x, y, run)
    flux = run(_flux, _kinds(scene))(scene, x, y, (instruments[0].pixel_scale / supersampling) ** 2)
    bands = flux.expand(-1, len(instruments), -1, -1).unbind(1)
    images = [
        pixels_of(band[:, None], instrument, supersampling, run)
        for band, instrument in zip(bands, instruments, strict=True)
    ]
    return torch.cat(images, dim=1) if len(images) > 1 else images[0]


def _blocks_added(scene: Scene, x: Tensor, y: Tensor, run: Runner) -> Scene:
    """Return the scene with its many masses summed block by block: one block is compiled, whatever their number."""
    blocks = [mass.blocks() for mass in scene.mass]
    if all(part is None for part in blocks):
        return scene
    single = tuple(mass for mass, part in zip(scene.mass, blocks, strict=True) if part is None)
    alpha = run(_deflection, tuple(map(type, single)))(replace(scene, mass=single), x, y)
    for block in (block for part in blocks if part is not None for block in part):
        alpha = run(_added, type(block))(*alpha, block, x, y)
    return replace(scene, mass=(Tabulated(*alpha),))


def _deflection(scene: Scene, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return scene.deflection(x, y)


def _added(alpha_x: Tensor, alpha_y: Tensor, block: MassProfile, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    more_x, more_y = block.deflection(x, y)
    return alpha_x + more_x, alpha_y + more_y


def _flux(scene: Scene, x: Tensor, y: Tensor, area: float) -> Tensor:
    flux = scene.surface_brightness(x, y) * area
    return flux[(None,) * (4 - flux.ndim)]  # a scene of mere numbers is a batch of one


def _kinds(scene: Scene) -> tuple[type, ...]:
    return tuple(map(type, scene.mass + scene.sources + scene.foreground))


def pixels_of(
    flux: Float[Tensor, "*B h w"], instrument: Instrument, supersampling: int, run: Runner = EAGER
) -> Float[Tensor, "*B H W"]:
    """Return the flux of samples as one band sees it: blurred, and binned to detector pixels."""
    if instrument.psf == "gaussian":
        taps = tuple(gaussian_taps(instrument, supersampling))
        return run(_blur_and_bin, (taps, supersampling))(flux, taps, supersampling)
    return bin_pixels(convolve_kernel(flux, kernel(instrument, supersampling)), supersampling)


def _blur_and_bin(flux: Tensor, taps: tuple[float, ...], supersampling: int) -> Tensor:
    return bin_pixels(convolve_separable(flux, taps), supersampling)


def bin_pixels(image: Float[Tensor, "*B h w"], factor: int) -> Float[Tensor, "*B H W"]:
    """Return the image with `factor`² pixels summed into one.

    A sum of strided copies, first over rows, then over columns: the same operations whatever the batch.
    """
    rows = image[..., ::factor, :]
    for k in range(1, factor):
        rows = rows + image[..., k::factor, :]
    binned = rows[..., ::factor]
    for k in range(1, factor):
        binned = binned + rows[..., k::factor]
    return binned


def convolve_separable(image: Float[Tensor, "*B H W"], taps: Sequence[float]) -> Float[Tensor, "*B H W"]:
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


def convolve_kernel(image: Float[Tensor, "*B H W"], psf: Float64[np.ndarray, "K L"]) -> Float[Tensor, "*B H W"]:
    """Return the image convolved with a kernel of odd sides, edge pixels replicated.

    By Fourier transform, each image by itself: a transform of many at once may round differently, and an image should
    not depend on how many are made with it.
    """
    height, width = image.shape[-2:]
    pad_y, pad_x = psf.shape[0] // 2, psf.shape[1] // 2
    rows = torch.arange(-pad_y, height + pad_y, device=image.device).clamp(0, height - 1)
    columns = torch.arange(-pad_x, width + pad_x, device=image.device).clamp(0, width - 1)
    size = (_fast_length(len(rows)), _fast_length(len(columns)))
    transfer = torch.fft.rfft2(torch.tensor(psf).to(image), s=size)

    def blurred(single: Tensor) -> Tensor:
        circular: Tensor = torch.fft.irfft2(torch.fft.rfft2(single[rows][:, columns], s=size) * transfer, s=size)
        # what wraps around stays in the first 2 pad rows and columns
        return circular[2 * pad_y : 2 * pad_y + height, 2 * pad_x : 2 * pad_x + width]

    singles = image.reshape(-1, height, width)
    return torch.stack([blurred(single) for single in singles]).reshape(image.shape) if len(singles) else image


def _fast_length(n: int) -> int:
    """Return the smallest length from n that has no prime factor above 5: Fourier transforms like it."""
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 1
