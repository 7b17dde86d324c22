"""From the expected to the observed image: the noise laws of the published datasets, and the variance they give."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Image = Float[Tensor, "B H W"]
Streams = Sequence[np.random.Generator]
Law = Callable[[Image, float, Float[Tensor, " B"], Streams], tuple[Image, Image, Image]]


def background_and_shot(
    expected: Image, background_sigma: float, exposure_time: Float[Tensor, " B"], streams: Streams
) -> tuple[Image, Image, Image]:
    """Return image, expected image and variance of Gaussian background and shot noise (DeepLense Models II, III).

    All in electron/s (variance: squared).

    Parameters
    ----------
    expected
        Noise-free images [electron/s].
    background_sigma
        Standard deviation of the background [electron/s].
    exposure_time
        Total exposure of each image [s].
    streams
        One random generator per image.
    """
    variance = background_sigma**2 + expected.clamp(min=0) / exposure_time[:, None, None]
    return expected + torch.sqrt(variance) * _normal(expected, streams), expected, variance


def double_shot_counts(
    expected: Image, background_sigma: float, exposure_time: Float[Tensor, " B"], streams: Streams
) -> tuple[Image, Image, Image]:
    """Return image, expected image t m and variance of Model I: Poisson counts of a rate that has shot noise already.

    counts ~ Poisson(max(0, t (m + N √(|m|/t + σ²)))): the published generator adds Gaussian shot noise and background
    to the rate, and then draws Poisson counts. Its two Gaussians are merged into one; the law is the same. The variance
    is exact: that of the clipped Gaussian plus its mean. Parameters as in `background_and_shot`; values in counts.
    """
    time = exposure_time[:, None, None]
    rate, sigma = time * expected, torch.sqrt(time * expected.abs() + (time * background_sigma) ** 2)
    noisy = (rate + sigma * _normal(expected, streams)).clamp(min=0)
    counts = [stream.poisson(image.numpy()) for stream, image in zip(streams, noisy.double().cpu(), strict=True)]
    mean, variance = _clipped_moments(rate, sigma)
    return torch.from_numpy(np.stack(counts)).to(expected), rate, mean + variance


def _clipped_moments(mean: Image, sigma: Image) -> tuple[Image, Image]:
    """Return mean σ (zΦ + φ) and variance σ² (Φ − φ² + zφ (1 − 2Φ) + z² Φ (1 − Φ)) of max(0, X), X normal, z = μ/σ."""
    z = mean / sigma.clamp(min=torch.finfo(sigma.dtype).tiny)
    above, below = torch.special.ndtr(z), torch.special.ndtr(-z)
    density = torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    variance = above - density**2 + z * density * (below - above) + z**2 * above * below
    return sigma * (z * above + density), sigma**2 * variance


def _normal(like: Image, streams: Sequence[np.random.Generator]) -> Image:
    """Return standard normal numbers, image by image from its own stream."""
    dtype = np.float64 if like.dtype == torch.float64 else np.float32
    numbers = np.empty(like.shape, dtype)
    for row, stream in zip(numbers, streams, strict=True):
        stream.standard_normal(out=row, dtype=dtype)
    return torch.from_numpy(numbers).to(like)


LAWS: dict[str, Law] = {"background_and_shot": background_and_shot, "double_shot_counts": double_shot_counts}
