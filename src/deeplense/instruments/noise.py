"""From the expected to the observed image: the noise laws, and the mean and variance they give.

A law is one row of `LAWS`. Both of its functions take the expected image [electron / s], the standard deviation of the
background [electron / s] (one per band) and the total exposure [s] (one per image), broadcastable to the image.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from deeplense.core.seeding import normal_quantile
from deeplense.instruments.poisson import poisson_quantile

Image = Float[Tensor, "B C H W"]
Words = Int64[Tensor, "N B C H W"]


class NoiseLaw(NamedTuple):
    """A law of noise.

    Attributes
    ----------
    observe
        Expected image, background σ, exposure time, random words → observed image.
    n_words
        Random 32-bit words a pixel takes.
    moments
        Expected image, background σ, exposure time → noise-free image in the unit of the observed one, and the variance
        of the observed image.
    mean
        Expected image, background σ, exposure time → mean of the observed image: the noise-free one but where the
        detector clips.
    """

    observe: Callable[[Image, Tensor, Tensor, Words], Image]
    n_words: int
    moments: Callable[[Image, Tensor, Tensor], tuple[Image, Image]]
    mean: Callable[[Image, Tensor, Tensor], Image]


def background_and_shot(expected: Image, sigma: Tensor, time: Tensor, words: Words) -> Image:
    """Return the image [electron/s] with Gaussian background and Gaussian shot noise (DeepLense Models II, III)."""
    variance = background_and_shot_moments(expected, sigma, time)[1]
    return expected + torch.sqrt(variance) * normal_quantile(words[0], expected.dtype)


def background_and_shot_moments(expected: Image, sigma: Tensor, time: Tensor) -> tuple[Image, Image]:
    """Return the expected image and σ² + m / t."""
    return expected, sigma**2 + expected.clamp(min=0) / time


def poisson_and_background(expected: Image, sigma: Tensor, time: Tensor, words: Words) -> Image:
    """Return the image [electron/s] of photons counted once, and Gaussian background: the law of a real detector."""
    counts = poisson_quantile(time * expected.clamp(min=0), words[1])
    return counts / time + sigma * normal_quantile(words[0], expected.dtype)


def double_shot_counts(expected: Image, sigma: Tensor, time: Tensor, words: Words) -> Image:
    """Return counts ~ Poisson(max(0, t (m + N √(|m|/t + σ²)))): Model I's.

    The published generator adds Gaussian shot noise and background to the rate, and then draws Poisson counts. Its two
    Gaussians are merged into one; the law is the same.
    """
    rate, spread = _rate_and_spread(expected, sigma, time)
    return poisson_quantile((rate + spread * normal_quantile(words[0], rate.dtype)).clamp(min=0), words[1])


def double_shot_moments(expected: Image, sigma: Tensor, time: Tensor) -> tuple[Image, Image]:
    """Return t m, and the variance of the counts: that of the clipped Gaussian rate plus its mean.

    (Where rates are clipped at 0, the mean of the counts lies above t m: `double_shot_mean`.)
    """
    rate, spread = _rate_and_spread(expected, sigma, time)
    mean, variance = _clipped_moments(rate, spread)
    return rate, mean + variance


def unbiased_mean(expected: Image, sigma: Tensor, time: Tensor) -> Image:
    """Return the expected image."""
    return expected


def double_shot_mean(expected: Image, sigma: Tensor, time: Tensor) -> Image:
    """Return the mean of the counts: that of the clipped Gaussian rate."""
    return _clipped_moments(*_rate_and_spread(expected, sigma, time))[0]


def _rate_and_spread(expected: Image, sigma: Tensor, time: Tensor) -> tuple[Image, Image]:
    return time * expected, torch.sqrt(time * expected.abs() + (time * sigma) ** 2)


def _clipped_moments(mean: Image, sigma: Image) -> tuple[Image, Image]:
    """Return mean σ (zΦ + φ) and variance σ² (Φ − φ² + zφ (1 − 2Φ) + z² Φ (1 − Φ)) of max(0, X), X normal, z = μ/σ."""
    z = mean / sigma.clamp(min=torch.finfo(sigma.dtype).tiny)
    above, below = torch.special.ndtr(z), torch.special.ndtr(-z)
    density = torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    variance = above - density**2 + z * density * (below - above) + z**2 * above * below
    return sigma * (z * above + density), sigma**2 * variance


LAWS: dict[str, NoiseLaw] = {
    "background_and_shot": NoiseLaw(background_and_shot, 1, background_and_shot_moments, unbiased_mean),
    "poisson_and_background": NoiseLaw(poisson_and_background, 2, background_and_shot_moments, unbiased_mean),
    "double_shot_counts": NoiseLaw(double_shot_counts, 2, double_shot_moments, double_shot_mean),
}
