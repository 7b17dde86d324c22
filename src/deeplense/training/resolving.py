"""What super-resolution must know of its images before it learns: how they were made coarse, their noise and range."""

from __future__ import annotations

from typing import Any

import torch

from deeplense.core.degradation import Degradation
from deeplense.core.errors import InvalidDataset
from deeplense.data.loader import Batch, PairLoader
from deeplense.metrics.noise_law import fit_noise_law
from deeplense.tasks.super_resolve import SuperResolve
from deeplense.upscalers.resolver import SuperResolver

SAMPLE = 256  # training pairs that are looked at
AT_ONCE = 64
ALIKE = 0.02  # of the coarse images' spread: the largest deviation of what is made coarse again


def pair_settings(train: PairLoader) -> dict[str, Any]:
    """Return what `SuperResolve` needs to know of a dataset of pairs, as numbers for the run's record.

    Raises
    ------
    InvalidDataset
        When the fine images are not a whole number of times larger than the coarse ones.
    """
    sample = train.sample_batch(SAMPLE)
    degradation, is_known = _degradation(train, sample)
    assert sample.fine is not None  # a PairLoader gives it
    noise = None
    if sample.truth is not None:
        noise = fit_noise_law(sample.image, degradation(sample.truth)).as_dict()
    return {
        "degradation": degradation.as_dict(),
        "degradation_is_known": is_known,
        "data_range": float(sample.fine.amax((1, 2, 3)).mean()) or 1.0,
        "noise": noise,
    }


def _degradation(train: PairLoader, sample: Batch) -> tuple[Degradation, bool]:
    """Return how the coarse images were made, as the dataset says or as they look, and whether that is known."""
    if train.dataset.degradation is not None:
        return train.dataset.degradation, True
    assert sample.fine is not None
    fine, coarse = sample.fine.shape[2:], sample.image.shape[2:]
    factor = fine[0] // coarse[0]
    if factor < 2 or (coarse[0] * factor, coarse[1] * factor) != tuple(fine):
        raise InvalidDataset(
            f"fine images of {fine[0]}×{fine[1]} pixels with coarse ones of {coarse[0]}×{coarse[1]}",
            "the same whole number of times as many pixels along both sides, at least 2",
            "resize or cut one of them",
        )
    candidates = [Degradation(factor, "bicubic"), Degradation(factor, "area")]
    deviations = [float((candidate(sample.fine) - sample.image).std() / sample.image.std()) for candidate in candidates]
    best = deviations.index(min(deviations))
    return candidates[best], deviations[best] < ALIKE


@torch.no_grad()
def prepare_resolver(network: SuperResolver, task: SuperResolve, train: PairLoader) -> None:
    """Give a network the unit of pixel values, and fit what does not learn by gradients."""
    sample = train.sample_batch(SAMPLE).image
    network.prepare(sample, ((batch.image, task.wanted(batch)) for batch in train.in_order(AT_ONCE)))
