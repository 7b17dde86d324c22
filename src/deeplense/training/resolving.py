"""What super-resolution must know of its images before it learns: how they were made coarse, their noise and range."""

from __future__ import annotations

from typing import Any

import torch

from deeplense.core.degradation import Degradation
from deeplense.core.errors import InvalidDataset, InvalidOption
from deeplense.data.loader import Batch, PairLoader
from deeplense.metrics.noise_law import fit_noise_law
from deeplense.tasks.super_resolve import SuperResolve
from deeplense.training.contest import Contest
from deeplense.training.trained import TrainedModel, locate_run
from deeplense.upscalers.resolver import SuperResolver

SAMPLE = 256  # training pairs that are looked at
AT_ONCE = 64
PENALTY = 1.0  # of the opponent's slope at real images
SOFTENING = 3.0  # σ of the noise at which what the opponent sees turns from linear to logarithmic
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


def contest_of(task: SuperResolve, channels: int, adversary: float, lr: float, seed: int) -> Contest:
    """Return the opponent of a network that has learnt by error, and let the task hold it to the coarse image.

    Weights are in units of the noise's variance, which the squared error is of the order of.

    Parameters
    ----------
    task
        What the network learns.
    channels
        Bands of the images.
    adversary
        Weight of what it loses to the opponent.
    lr, seed
        Of the opponent.
    """
    task.consistency = 1.0
    softening = SOFTENING * task.noise_share**0.5 * task.data_range
    return Contest(channels, adversary * task.noise_share, PENALTY, lr, softening, seed)


def take_features(task: SuperResolve, name: str, image_shape: tuple[int, int, int], device: torch.device) -> None:
    """Let the task compare what a classifier of lenses sees in images, in place of one of photographs.

    Parameters
    ----------
    task
        What is learnt.
    name
        A run, of a backbone with a head that learns from pixels.
    image_shape
        Of the fine images.
    device
        Where the work is done.

    Raises
    ------
    InvalidOption
        When the run is no such classifier, or of other bands.
    """
    model = TrainedModel.load(locate_run(name), "cpu")
    network: Any = model.network
    if model.task.pairs or not hasattr(network, "backbone") or network.backbone.raw:
        raise InvalidOption(
            f"--perceptual {name}", "a classifier that learns from pixels, such as residual_cnn", "name another run"
        )
    bands = model.config["image_shape"][0]
    if bands != image_shape[0]:
        raise InvalidOption(
            f"--perceptual {name}, of {bands} bands, for images of {image_shape[0]}",
            "the same bands",
            "name another run",
        )
    backbone = network.backbone.to(device).eval().requires_grad_(False)
    task.alikeness = task.noise_share
    task.features = lambda images: backbone.forward_features(model.normalisation(images))


@torch.no_grad()
def prepare_resolver(network: SuperResolver, task: SuperResolve, train: PairLoader) -> None:
    """Give a network the unit of pixel values, and fit what does not learn by gradients."""
    sample = train.sample_batch(SAMPLE).image
    network.prepare(sample, ((batch.image, task.wanted(batch)) for batch in train.in_order(AT_ONCE)))
