"""One number that makes confidences honest: the temperature that the logits are divided by."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deeplense.core.errors import InvalidDataset, InvalidOption
from deeplense.metrics.classification import Floats, checked

LEAST, MOST = 0.05, 20.0
HALVINGS = 40


def logits_of(probabilities: ArrayLike) -> NDArray[np.float64]:
    """Return logits [N, K] whose softmax the probabilities [N, K] are; one of 0 counts as the smallest of float32."""
    values = np.asarray(probabilities, np.float64)
    return np.asarray(np.log(np.maximum(values, np.finfo(np.float32).tiny)))


def fit_temperature(logits: ArrayLike, targets: ArrayLike) -> float:
    """Return the T > 0 for which softmax(logits / T) gives the true classes the largest likelihood.

    In 1/T the mean negative log-likelihood is convex: its derivative, the mean logit less that of the true class, is
    brought to 0 by bisection between T = 0.05 and 20. Where each image has its largest logit at the true class there
    is no minimum; the answer is then 1, which changes nothing.

    Parameters
    ----------
    logits
        [N, K] of images that neither the network nor any mark has been fitted on: the validation split.
    targets
        [N] index of the true class.

    Raises
    ------
    InvalidOption
        Shapes that do not belong together, or logits that are not finite.
    InvalidDataset
        No image.

    References
    ----------
    Guo et al. 2017, On Calibration of Modern Neural Networks, section 4.2 (arXiv:1706.04599).
    """
    values, truth = np.asarray(logits, np.float64), np.asarray(targets)
    if values.ndim != 2 or truth.shape != values.shape[:1] or not np.isfinite(values).all():
        raise InvalidOption(
            f"logits of shape {list(values.shape)} with targets of shape {list(truth.shape)}",
            "finite logits [N, K] and targets [N]",
            "pass one row per image; after a diverged training, train again with a smaller --lr",
        )
    if not len(truth):
        raise InvalidDataset("there is no image to calibrate on", "a validation split", "choose another dataset")
    true = values[np.arange(len(truth)), truth]
    if (true >= values.max(axis=1)).all():
        return 1.0
    cold, warm = np.log(LEAST), np.log(MOST)
    for _ in range(HALVINGS):
        middle = (cold + warm) / 2
        odds = softmax(values / np.exp(middle))
        slope = float(((odds * values).sum(axis=1) - true).mean())  # derivative in 1/T: positive where T is too small
        cold, warm = (middle, warm) if slope > 0 else (cold, middle)
    return float(np.exp((cold + warm) / 2))


def tempered(probabilities: ArrayLike, temperature: float) -> NDArray[np.float64]:
    """Return the probabilities [N, K] that the same logits, divided by a temperature, would have given."""
    return softmax(logits_of(probabilities) / temperature)


def nll_per_image(probabilities: ArrayLike, targets: ArrayLike) -> NDArray[np.float64]:
    """Return [N] negative log-likelihoods of the true classes [nat].

    Parameters
    ----------
    probabilities
        [N, K] probability of each class.
    targets
        [N] index of the true class.

    Raises
    ------
    InvalidOption, InvalidDataset
        See `classification.checked`.
    """
    values, truth = checked(probabilities, targets)
    return np.asarray(-logits_of(values)[np.arange(len(truth)), truth])


def softmax(logits: Floats) -> NDArray[np.float64]:
    """Return the probabilities [N, K] of logits [N, K]."""
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))
