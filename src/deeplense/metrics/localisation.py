"""Whether a map points to where something is known to be."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deeplense.core.errors import InvalidOption
from deeplense.metrics.classification import Floats
from deeplense.metrics.intervals import Interval, mean_mark, wilson
from deeplense.metrics.ranking import auroc

FRACTION = 0.05  # of the pixels


def top_pixels(truth: Floats, fraction: float = FRACTION) -> NDArray[np.bool_]:
    """Return [H, W] the brightest pixels of a map: a fraction of all, or those above zero where they are fewer.

    Parameters
    ----------
    truth
        [H, W].
    fraction
        Of the pixels, above 0.
    """
    number = max(1, math.floor(fraction * truth.size))
    least = np.partition(truth.ravel(), -number)[-number]
    return np.asarray((truth >= least) & (truth > 0))


def localisation_auroc(attribution: Floats, pixels: NDArray[np.bool_]) -> float:
    """Return the probability that a pixel of the true ones has more attribution than one of the others; chance is ½.

    NaN where no pixel is a true one, or every one.

    Parameters
    ----------
    attribution
        [H, W].
    pixels
        [H, W] the true ones.

    Raises
    ------
    InvalidOption
        When the shapes differ.
    """
    if attribution.shape != pixels.shape:
        raise InvalidOption(
            f"an attribution of {list(attribution.shape)} for a truth of {list(pixels.shape)}",
            "maps of one shape",
            "bring the attribution to the pixels of the image first",
        )
    if pixels.all() or not pixels.any():
        return math.nan
    return auroc(attribution.ravel(), pixels.ravel())


def pointing_hit(attribution: Floats, pixels: NDArray[np.bool_]) -> bool:
    """Whether the largest attribution falls on a true pixel: one turn of the pointing game.

    A map without any maximum misses; chance is the fraction of true pixels.

    Parameters
    ----------
    attribution
        [H, W].
    pixels
        [H, W] the true ones.

    References
    ----------
    Zhang et al. 2018, IJCV 126, 1084, section 4.2 (arXiv:1608.00507); here without tolerance.
    """
    if attribution.max() <= attribution.min():
        return False
    return bool(pixels.ravel()[attribution.argmax()])


@dataclass(frozen=True)
class LocalisationScore:
    """How well many attributions point to what their images hold.

    Substructure and attribution both lie around the ring of light, so that an area above ½ proves little. The control
    is the same attribution against the truth of the next image; the gain over it is what an attribution knows of its
    own image.

    Parameters
    ----------
    own
        Mean area under the ROC curve of attribution against the true pixels of the same image.
    other
        The same against those of another image.
    gain
        Mean of their differences; 0 where an attribution knows nothing of its own image.
    hits
        Fraction of images whose largest attribution is on a true pixel.
    chance
        Mean fraction of true pixels: what a random maximum would hit.
    """

    own: Interval
    other: Interval
    gain: Interval
    hits: Interval
    chance: float


def localisation_score(attributions: Floats, truths: Floats, seed: int = 0) -> LocalisationScore | None:
    """Return how well attributions find the brightest pixels of the truth; None where fewer than two images have any.

    Parameters
    ----------
    attributions
        [N, H, W].
    truths
        [N, H, W], not negative.
    seed
        Seed of the resampling.

    Raises
    ------
    InvalidOption
        When the shapes differ.
    """
    masks = [top_pixels(truth) for truth in truths]
    known = [k for k, mask in enumerate(masks) if mask.any() and not mask.all()]
    if len(known) < 2:
        return None
    pairs = list(zip(known, [*known[1:], known[0]], strict=True))
    own = np.array([localisation_auroc(attributions[k], masks[k]) for k, _ in pairs])
    other = np.array([localisation_auroc(attributions[k], masks[following]) for k, following in pairs])
    hits = float(np.mean([pointing_hit(attributions[k], masks[k]) for k in known]))
    one = np.zeros(len(known), np.int64)
    return LocalisationScore(
        own=mean_mark(own, one, seed),
        other=mean_mark(other, one, seed),
        gain=mean_mark(own - other, one, seed),
        hits=Interval(hits, *wilson(hits, len(known)), len(known)),
        chance=float(np.mean([masks[k].mean() for k in known])),
    )
