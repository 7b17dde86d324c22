"""From the expected to the observed image: every noise law of the published datasets, and the variance that goes with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Image = Float[Tensor, "B H W"]
Law = Callable[[Image, float, Float[Tensor, " B"], Sequence[np.random.Generator]], tuple[Image, Image]]


def background_and_shot(
    expected: Image, background_sigma: float, exposure_time: Float[Tensor, " B"], streams: Sequence[np.random.Generator]
) -> tuple[Image, Image]:
    """Return image and variance [electron/s] of Gaussian background plus Gaussian shot noise (DeepLense Models II, III).

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
    return expected + torch.sqrt(variance) * _normal(expected, streams), variance


def double_shot_counts(
    expected: Image, background_sigma: float, exposure_time: Float[Tensor, " B"], streams: Sequence[np.random.Generator]
) -> tuple[Image, Image]:
    """Return image and variance [counts] of Model I: Poisson counts of an already noisy rate (shot noise enters twice).

    counts ~ Poisson(max(0, t (m + N √(|m|/t + σ²)))): the published generator adds Gaussian shot noise and background to
    the rate, and then draws Poisson counts. Its two Gaussians are merged into one; the law is the same.
    """
    time = exposure_time[:, None, None]
    rate_variance = expected.abs() / time + background_sigma**2
    rate = (time * (expected + torch.sqrt(rate_variance) * _normal(expected, streams))).clamp(min=0)
    counts = [stream.poisson(image.numpy()) for stream, image in zip(streams, rate.double().cpu(), strict=True)]
    variance = time**2 * rate_variance + time * expected.clamp(min=0)
    return torch.from_numpy(np.stack(counts)).to(expected), variance


def _normal(like: Image, streams: Sequence[np.random.Generator]) -> Image:
    """Return standard normal numbers, image by image from its own stream."""
    dtype = np.float64 if like.dtype == torch.float64 else np.float32
    numbers = np.empty(like.shape, dtype)
    for row, stream in zip(numbers, streams, strict=True):
        stream.standard_normal(out=row, dtype=dtype)
    return torch.from_numpy(numbers).to(like)


LAWS: dict[str, Law] = {"background_and_shot": background_and_shot, "double_shot_counts": double_shot_counts}
