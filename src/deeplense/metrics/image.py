"""How close an image comes to the true one: one number per image, and no opinion on what the image shows."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from deeplense.core.errors import InvalidOption

Images = Float[Tensor, "B C H W"]
Scale = float | Float[Tensor, " B"]
PerImage = Float[Tensor, " B"]

WIDTH, REACH = 1.5, 5  # σ of the window of the structural similarity and pixels on either side of its middle
K1, K2 = 0.01, 0.03
BRIGHT = 0.1  # of the peak: pixels above it have a part in the centroid


def mse(estimate: Images, truth: Images) -> PerImage:
    """Return [B] mean squared errors [square of the images' unit].

    Parameters
    ----------
    estimate, truth
        Images in one unit.

    Raises
    ------
    InvalidOption
        When the shapes differ.
    """
    require_alike(estimate=estimate, truth=truth)
    return (exact(estimate) - exact(truth)).square().mean((1, 2, 3))


def mae(estimate: Images, truth: Images) -> PerImage:
    """Return [B] mean absolute errors [the images' unit]; arguments and errors as of `mse`."""
    require_alike(estimate=estimate, truth=truth)
    return (exact(estimate) - exact(truth)).abs().mean((1, 2, 3))


def psnr(estimate: Images, truth: Images, data_range: Scale) -> PerImage:
    """Return [B] peak signal-to-noise ratios [dB]; infinite where nothing differs.

    Parameters
    ----------
    estimate, truth
        Images in one unit.
    data_range
        What counts as the peak, in that unit: one number, or one per image. It has to be stated, as the mark means
        nothing without it.

    Raises
    ------
    InvalidOption
        When the shapes differ, or a range is not positive.
    """
    return psnr_of_mse(mse(estimate, truth), data_range)


def psnr_of_mse(errors: PerImage, data_range: Scale) -> PerImage:
    """Return [B] the peak signal-to-noise ratios [dB] of mean squared errors, such as that of a noise floor.

    Parameters
    ----------
    errors
        [B] mean squared errors.
    data_range
        See `psnr`.

    Raises
    ------
    InvalidOption
        When a range is not positive.
    """
    return 10 * torch.log10(_ranges(data_range, errors).square() / errors)


def ssim(estimate: Images, truth: Images, data_range: Scale) -> Float[Tensor, " B"]:
    """Return [B] mean structural similarities, 1 for equal images; gradients flow through it.

    The window is a Gaussian of σ = 1.5 pixels and 11 × 11 taps, variances are those of the population, and the mean is
    over bands and over the pixels whose window lies inside the image. Images of single precision or less are
    computed in single precision, under automatic casting too: half precision cannot hold the difference of squares.

    Parameters
    ----------
    estimate, truth
        Images in one unit, at least 11 pixels a side.
    data_range
        See `psnr`; a tenth of it makes other marks, as the two constants are fractions of it.

    Raises
    ------
    InvalidOption
        When the shapes differ, an image is smaller than the window, or a range is not positive.

    References
    ----------
    Wang, Bovik, Sheikh & Simoncelli 2004, IEEE Trans. Image Process. 13, 600, eq. 13.
    """
    require_alike(estimate=estimate, truth=truth)
    if min(truth.shape[2:]) <= 2 * REACH:
        raise InvalidOption(
            f"images of {truth.shape[2]} × {truth.shape[3]} pixels",
            f"at least {2 * REACH + 1} a side, the window of the structural similarity",
            "leave this mark out for so small images",
        )
    kind = torch.promote_types(torch.promote_types(estimate.dtype, truth.dtype), torch.float32)
    with torch.autocast(truth.device.type, enabled=False):
        x, y = estimate.to(kind), truth.to(kind)
        mx, my, xx, yy, xy = _smoothed(torch.stack([x, y, x * x, y * y, x * y]))
        peak = _ranges(data_range, truth).to(kind)
        c1, c2 = (((k * peak) ** 2).reshape(-1, 1, 1, 1) for k in (K1, K2))
        luminance = (2 * mx * my + c1) / (mx * mx + my * my + c1)
        structure = (2 * (xy - mx * my) + c2) / (xx - mx * mx + yy - my * my + c2)
        similarity: Tensor = luminance * structure
        return similarity.mean((1, 2, 3))


def flux_error(estimate: Images, truth: Images, radius: float | None = None, background: Scale = 0.0) -> PerImage:
    """Return [B] relative errors of the flux: (sum of estimate − sum of truth) / sum of (truth − background).

    A background cancels in the numerator; in the denominator it would make any error look small, so that it has to be
    taken out: by whoever made the images, or here. What remains may be nothing but noise, and an error relative to
    that has no meaning: NaN where it is not positive. Bands are added up.

    Parameters
    ----------
    estimate, truth
        Images in one unit.
    radius
        Of a circular aperture about the image's centre [pixels], which counts pixels whose centre lies inside; None is
        the whole image.
    background
        Of the truth [the images' unit]: one number, or one per image.

    Raises
    ------
    InvalidOption
        When the shapes differ, or the aperture holds no pixel.
    """
    require_alike(estimate=estimate, truth=truth)
    inside = _aperture(truth, math.inf if radius is None else radius)
    if not inside.any():
        raise InvalidOption(f"an aperture of radius {radius} pixels", "one that holds a pixel", "choose a larger one")
    real = exact(truth)
    level = torch.as_tensor(background, dtype=real.dtype, device=real.device).reshape(-1, 1, 1, 1)
    flux = ((real - level) * inside).sum((1, 2, 3))
    difference = ((exact(estimate) - real) * inside).sum((1, 2, 3))
    return torch.where(flux > 0, difference / flux, math.nan)


def centroid_offset(estimate: Images, truth: Images, fraction: float = BRIGHT) -> PerImage:
    """Return [B] distances [pixels] of the centroid of the light from the true one.

    Centroids are flux-weighted means over the pixels where the truth exceeds a fraction of its peak, the same pixels
    for both: over a whole image the noise far out would decide. Bands are added up first. NaN where the truth or the
    estimate has no flux there.

    Parameters
    ----------
    estimate, truth
        Images in one unit, the background taken out.
    fraction
        Of the peak, from 0 to below 1; above the noise.

    Raises
    ------
    InvalidOption
        When the shapes differ, or the fraction is none.
    """
    require_alike(estimate=estimate, truth=truth)
    if not 0 <= fraction < 1:
        raise InvalidOption(f"a fraction of {fraction}", "at least 0 and below 1", "name a fraction of the peak")
    white = exact(truth).sum(1)
    bright = white > fraction * white.amax((1, 2), keepdim=True)
    offset = _centroid(exact(estimate).sum(1) * bright) - _centroid(white * bright)
    return offset.square().sum(1).sqrt()


def require_alike(**images: Tensor) -> None:
    """Refuse images of different shapes: broadcast, they would give a number too, and a wrong one.

    Raises
    ------
    InvalidOption
        When a shape differs; the message names all.
    """
    shapes = {name: list(image.shape) for name, image in images.items()}
    if len({tuple(shape) for shape in shapes.values()}) > 1:
        raise InvalidOption(
            ", ".join(f"{name} of shape {shape}" for name, shape in shapes.items()),
            "images of one shape [B, C, H, W]",
            "bring them to the same pixels first",
        )


def exact(images: Float[Tensor, "*size"]) -> Float[Tensor, "*size"]:
    """Return them in double precision, or in single on Apple's GPUs, which have no other."""
    return images.to(precision(images.device))


def precision(device: torch.device) -> torch.dtype:
    """Return the most precise type that a device computes in."""
    return torch.float32 if device.type == "mps" else torch.float64


def _ranges(data_range: Scale, like: Tensor) -> Tensor:
    peak = torch.as_tensor(data_range, dtype=precision(like.device), device=like.device)
    if not (peak > 0).all():
        raise InvalidOption(
            f"a data range of {data_range}", "a positive number, or one per image", "state the peak of the images"
        )
    return peak


def _smoothed(images: Float[Tensor, "*N H W"]) -> Float[Tensor, "*N h w"]:
    """Return the Gaussian-weighted means of all windows that lie inside."""
    x = torch.arange(-REACH, REACH + 1, dtype=images.dtype, device=images.device)
    taps = torch.exp(-(x**2) / (2 * WIDTH**2))
    taps = taps / taps.sum()
    means = images.flatten(0, -3)  # a channel each: many times faster on CPUs than one channel and a large batch
    for shape in ((1, 1, -1, 1), (1, 1, 1, -1)):
        means = F.conv2d(means, taps.reshape(shape).expand(len(means), -1, -1, -1), groups=len(means))
    return means.reshape(*images.shape[:-2], *means.shape[1:])


def _aperture(images: Images, radius: float) -> Bool[Tensor, "H W"]:
    kind = precision(images.device)
    y, x = (torch.arange(n, dtype=kind, device=images.device) - (n - 1) / 2 for n in images.shape[2:])
    return torch.hypot(y[:, None], x) <= radius


def _centroid(light: Float[Tensor, "B H W"]) -> Float[Tensor, "B 2"]:
    y, x = (torch.arange(n, dtype=light.dtype, device=light.device) for n in light.shape[1:])
    flux = light.sum((1, 2))
    moments = torch.stack([light.sum(2) @ y, light.sum(1) @ x], dim=1)
    return torch.where(flux[:, None] > 0, moments / flux[:, None], math.nan)
